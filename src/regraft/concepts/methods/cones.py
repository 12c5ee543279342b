"""ConES: rows behind the text tower, searched while it rests."""

from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch.nn.functional import mse_loss

from regraft.concepts.host.diffusion import Batch, Diffusion
from regraft.concepts.kinds.output_rows import OutputRows, Place, encoder_hash, neutral_rows
from regraft.concepts.learning import Step, moved
from regraft.concepts.method import ConceptMethod, Learned, Lesson, Plan
from regraft.concepts.search.core import Found, Pace, Task, noise_like, search
from regraft.concepts.search.prompts import Effect, Prompts, pairs_beside, resting, told_in
from regraft.errors import ParameterError
from regraft.method import Paper

TAIL = 5  # rows at a prompt's end, as HiPer has them


class Cones(ConceptMethod):
    r"""Rows that the text tower would have said of the concept, searched without running it.

    .. math:: c^* = \arg\min_c\; \mathbb{E}_{z, \epsilon, t} \lVert \epsilon - \epsilon_\theta(z_t, t, c) \rVert^2

    where :math:`c_0 = E(y)` is what the tower says of a starting phrase (section 3). It is asked once, for that phrase and all captions;
    then it rests: a call of it during the search is an error, and on an accelerator it waits on the processor. Only the ``(k, width)`` rows
    move. They never pass the tower, so the words beside them have not seen the concept: what is composed holds less well than with textual
    inversion, and less the longer the search.

    INFERRED (only the paper's abstract could be read): `rows`, `start`, `phrase`, the optimizer, `lr`, `steps`, `batch`, `weight_decay`,
    `pooled`; `cap` and `keep` are extensions. The tail, its five rows and its scale are HiPer's (arXiv 2303.08767).

    Attributes
    ----------
    rows : which move: those of the word in any caption (slot), all of `phrase` (full: styles), the prompt's last ones (tail).
    vectors : rows of the word or the tail; None, one and five. A known word is repeated over them.
    start : rows of the phrase, or normal noise like the rows of real captions.
    phrase : the prompt that is searched with, one ``{}`` for the word.
    pooled : of XL, search its pooled vector too.
    tail_scale : of rows at the tail, in other prompts than `phrase`.
    cap : no row gets longer than it was at the start.
    keep : stop when words beside the concept have less than this share of their first effect on the U-Net; None, never.
    flip : how often an image is mirrored.
    weight_decay : of AdamW, on the rows.
    """

    paper = Paper("Concept Embedding Search for Parameter Efficient Tuning Large Vision Language Models", "Yi et al.", 2023, "2305.18993")
    summary = "rows behind the text tower, which does not run while they are searched"

    steps: PositiveInt = 400
    batch: PositiveInt = 4
    lr: PositiveFloat = 5e-3
    rows: Place = "slot"
    vectors: PositiveInt | None = None
    start: Literal["phrase", "noise"] = "phrase"
    phrase: str = "a photo of a {}"
    pooled: bool = False
    tail_scale: PositiveFloat = 0.8
    cap: bool = False
    keep: Annotated[float, Field(gt=0, lt=1)] | None = None
    flip: Annotated[float, Field(ge=0, le=1)] = 0.5
    weight_decay: NonNegativeFloat = 0.0

    def learn(self, lesson: Lesson, plan: Plan) -> Learned:
        pipeline = lesson.pipeline
        sentences = [self.phrase] if self.rows == "full" else lesson.captions()
        neutral, pairs = self._neutral(lesson), [] if self.keep is None else pairs_beside(pipeline, lesson.init, lesson.word)
        told = [self.phrase.replace("{}", lesson.word)]
        if self.rows != "full":
            told += [*told_in(lesson, sentences), *(text for pair in pairs for text in pair)]
        prompts = Prompts.encoded(pipeline, told, lesson.word, neutral, self.rows, self._count(), self.pooled)
        diffusion = Diffusion(pipeline, lesson.pictures.images, flip=self.flip)

        def model(x: tuple[Batch, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
            batch, chosen = x
            return diffusion.predict(batch, prompts.with_rows(chosen, rows))

        def draw(size: int, generator: torch.Generator) -> tuple[tuple[Batch, torch.Tensor], torch.Tensor]:
            batch = diffusion.batch(size, generator)
            if self.rows == "full":
                chosen = torch.zeros(size, dtype=torch.long, device=prompts.where.device)
            else:
                chosen = prompts.drawn(lesson, Step(0, batch, generator), sentences)
            return (batch, chosen), diffusion.target(batch)

        start = prompts.start()
        if self.start == "noise":
            start = prompts.with_shift(noise_like(prompts.real, prompts.count, plan.seed))
        pace = Pace(lr=self.lr, batch=self.batch, weight_decay=self.weight_decay, cap=self.cap)
        plan = replace(plan, steps=plan.steps if plan.steps is not None else self.steps)
        with resting(pipeline):
            stop = None if self.keep is None else Effect(diffusion, prompts, pairs, self.keep)
            found = search(Task(model, mse_loss, draw), start, pace=pace, plan=plan, stop=stop, told=self.name)
        return self._learned(lesson, prompts, neutral, found)

    def _neutral(self, lesson: Lesson) -> dict[str, torch.Tensor]:
        """Rows of what the towers read at the word. Raises `ParameterError`: a phrase without one ``{}``, or `keep` with full rows."""
        if self.phrase.count("{}") != 1:
            raise ParameterError(f"phrase={self.phrase!r}: give a prompt with one {{}} where the word stands")
        if self.rows == "full" and self.keep is not None:
            raise ParameterError("keep: with rows=full there are no words beside the concept: take rows=slot or rows=tail")
        return neutral_rows(lesson.pipeline, lesson.init, self._count() if self.rows == "slot" else None)

    def _count(self) -> int | None:
        return None if self.rows == "full" else self.vectors or (1 if self.rows == "slot" else TAIL)

    def _learned(self, lesson: Lesson, prompts: Prompts, neutral: dict[str, torch.Tensor], found: Found) -> Learned:
        rows, shift = prompts.parted(found.rows)
        concept = OutputRows(
            lesson.word,
            rows,
            self.rows,
            lesson.init,
            neutral,
            self.phrase,
            prompts.with_rows(torch.zeros(1, dtype=torch.long, device=rows.device), found.rows),
            prompts.where[0] >= 0,
            shift,
            self.tail_scale,
            encoder_hash(lesson.pipeline),
        )
        facts = moved({"rows": prompts.parted(found.start)[0]}, {"rows": rows})
        facts |= {"longest_row": float(found.lengths[:, 1].max()), "seconds_a_step": found.seconds_a_step}
        size = rows.numel() + (0 if shift is None else shift.numel())
        return Learned(concept, size, found.curve, facts, found.stopped)
