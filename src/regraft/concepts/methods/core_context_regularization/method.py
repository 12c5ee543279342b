"""CoRe in two stages: the rows of a word that leave its context as it was, then the U-Net for what the rows cannot say."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import nn

from regraft.concepts.host.attention import recorded
from regraft.concepts.host.captions import known, read_templates
from regraft.concepts.host.diffusion import Diffusion
from regraft.concepts.host.pipeline import encode
from regraft.concepts.host.words import Rows, rows_of, spliced
from regraft.concepts.kinds.finetuned import FinetunedConcept, config_of, trainable
from regraft.concepts.kinds.word import WordConcept
from regraft.concepts.learning import Run, Step, descend, moved, prompts_for
from regraft.concepts.method import ConceptMethod, Learned, Lesson, Plan
from regraft.concepts.methods.core_context_regularization.context import Context, Pair, looked_at
from regraft.concepts.methods.core_context_regularization.prompts import Prompts, sentences
from regraft.method import Paper


class CoreContextRegularization(ConceptMethod):
    r"""Rows of a word by the diffusion loss, held so that the other words of many prompts mean, and draw, what they did.

    .. math:: L = L_\text{diff} + \lambda_\text{emb} \frac{1}{n-1} \sum_{i \neq k} (1 - \cos(E(v)_i, E(v')_i))
              + \lambda_\text{attn} \frac{1}{n-1} \sum_{i \neq k} (\mu(M_i) - \mu(M'_i))^2

    :math:`v` is a prompt with the word at :math:`k` (all its places), :math:`v'` the same with its category, one drawn a step;
    :math:`E(v)_i` what the U-Net reads at a place (of XL: both towers side by side), :math:`M_i` how much pixels look at it in all cross-
    attention layers on the noisy images of the step (equations 3 to 5). In the middle of the run each step leaves the length of the rows as
    it was (equation 6). The second stage tunes the whole U-Net by the diffusion loss alone. ``Plan.steps`` shortens both stages alike.

    The attention term is a mean over images. INFERRED: that the paper leaves out padding (`padding`), and which cosine its figures come
    from (`compat`). Both prompts end at their own end also in "released", where the authors' code cuts both at the end of one.

    Attributes
    ----------
    lam_emb : weight of the context embedding term. lam_attn : weight of the context attention term.
    prompts : the sentences that are regularized: of living things, of others, of both, or the caption itself ("caption").
    templates : file of such sentences in place of these, one a line with ``{}``.
    caption : what is said of the pictures while learning.
    vectors : pieces of the word; one known word is repeated over them. By default as many as the initial word has.
    rescale : keep the length in the middle of the first stage. rescale_from : and rescale_to : shares of its steps (120 to 180 of 300).
    padding : compare the places behind a prompt's end too.
    unet_steps : of the second stage; 0 leaves it out. unet_batch : images a step. unet_lr : its learning rate.
    flip : how often an image is mirrored. weight_decay : of AdamW, in both stages.
    compat : "released": the cosine of each column over places; squared differences layer by layer, summed over images.
    """

    paper = Paper("CoRe: Context-Regularized Text Embedding Learning for Text-to-Image Personalization", "Wu et al.", 2024, "2408.15914")
    summary = "a word that leaves the rest of a prompt as it was, then the whole U-Net"

    steps: PositiveInt = 300
    batch: PositiveInt = 6
    lr: PositiveFloat = 5e-3
    lam_emb: NonNegativeFloat = 1.5e-4
    lam_attn: NonNegativeFloat = 0.05
    prompts: Prompts | Literal["caption"] = "universal"
    templates: Path | None = None
    caption: str = "a photo of a {}"
    vectors: PositiveInt | None = None
    rescale: bool = True
    rescale_from: Annotated[float, Field(ge=0, le=1)] = 0.4
    rescale_to: Annotated[float, Field(ge=0, le=1)] = 0.6
    padding: bool = False
    unet_steps: NonNegativeInt = 1000
    unet_batch: PositiveInt = 4
    unet_lr: PositiveFloat = 2e-6
    flip: Annotated[float, Field(ge=0, le=1)] = 0.25
    weight_decay: NonNegativeFloat = 1e-2
    compat: Literal["released"] | None = None

    def learn(self, lesson: Lesson, plan: Plan) -> Learned:
        pipeline, word = lesson.pipeline, lesson.word
        diffusion = Diffusion(pipeline, lesson.pictures.images, flip=self.flip)
        start = self.rows(pipeline, lesson.init)
        rows = {key: nn.Parameter(value.detach().float().clone()) for key, value in start.items()}
        told = list(lesson.sentences or [self.caption])
        with spliced(pipeline, {word: rows}):
            run = self._first(lesson, plan, diffusion, rows, told)
        learned: Rows = {key: value.detach().clone() for key, value in rows.items()}
        count, facts = sum(value.numel() for value in learned.values()), moved(start, learned)
        steps = round(self.unet_steps * (1 if plan.steps is None else plan.steps / self.steps))
        if not steps or run.stopped:
            return Learned(WordConcept(word, learned, lesson.init), count, run.curve, facts, run.stopped)
        with spliced(pipeline, {word: learned}):
            weights, second = self._second(lesson, replace(plan, steps=steps), diffusion, told)
        concept = FinetunedConcept(word, weights, config_of(pipeline.unet), learned, lesson.init)
        last = run.curve[-1][0] if run.curve else 0
        curve = [*run.curve, *((last + step, loss) for step, loss in second.curve)]
        return Learned(concept, count + sum(value.numel() for value in weights.values()), curve, facts, second.stopped)

    def rows(self, pipeline: Any, init: str) -> Rows:
        """The rows before learning, (vectors, width) for each tower."""
        known_rows = rows_of(pipeline, init)
        if self.vectors in (None, len(next(iter(known_rows.values())))):
            return known_rows
        return {key: value.expand(self.vectors, -1) for key, value in rows_of(pipeline, init, 1).items()}

    def pairs(self, lesson: Lesson, told: list[str]) -> list[Pair]:
        """The prompts that are regularized, in a pipeline that has the word."""
        if self.templates is not None:
            chosen = read_templates(self.templates)
        elif self.prompts == "caption":
            chosen = told
        else:
            chosen = known(lesson.pipeline, sentences(self.prompts), lesson.init)
            chosen = lesson.captions() if chosen == ["{}"] else chosen
        return [Pair.of(lesson.pipeline, one, lesson.word, lesson.init, padding=self.padding) for one in chosen]

    @contextmanager
    def context(self, diffusion: Diffusion) -> Iterator[Context]:
        """The terms, with the U-Net's looks taken down where they are asked for."""
        with ExitStack() as stack:
            maps = stack.enter_context(recorded(diffusion.pipeline.unet, looked_at)) if self.lam_attn else {}
            yield Context(diffusion, maps, self.lam_emb, self.lam_attn, self.compat == "released")

    def _first(self, lesson: Lesson, plan: Plan, diffusion: Diffusion, rows: dict[str, nn.Parameter], told: list[str]) -> Run:
        pairs = self.pairs(lesson, told)
        steps = plan.steps if plan.steps is not None else self.steps
        middle = range(round(self.rescale_from * steps), round(self.rescale_to * steps))
        lengths = Lengths(rows, middle if self.rescale else range(0))
        with self.context(diffusion) as context:

            def loss_of(step: Step) -> torch.Tensor:
                lengths.note()
                drawn = int(np.random.default_rng([plan.seed, step.number]).integers(len(pairs)))  # one a step of the optimizer
                return context.loss(step.batch, prompts_for(lesson, step, told), pairs[drawn])

            return descend(diffusion, rows, loss_of, self, plan, weight_decay=self.weight_decay, after=lengths.keep, told="CoRe: the word")

    def _second(self, lesson: Lesson, plan: Plan, diffusion: Diffusion, told: list[str]) -> tuple[dict[str, torch.Tensor], Run]:
        """Weights of the U-Net, tuned with the word as it is. The U-Net has its own again afterwards."""
        pipeline = lesson.pipeline
        state = None if plan.state is None else plan.state / "unet"

        def loss_of(step: Step) -> torch.Tensor:
            with torch.no_grad():
                context = encode(pipeline, prompts_for(lesson, step, told))
            return diffusion.losses(step.batch, context).mean()

        paced = replace(self, batch=self.unet_batch, lr=self.unet_lr)
        with trainable(pipeline.unet) as weights:
            run = descend(
                diffusion, weights, loss_of, paced, replace(plan, state=state), weight_decay=self.weight_decay, told="CoRe: the U-Net"
            )
            learned = {name: value.detach().clone() for name, value in weights.items()}
        return {name: value.to(pipeline.unet.dtype) for name, value in learned.items()}, run


@dataclass(frozen=True)
class Lengths:
    """Lengths of the rows of each tower, left as they were by the steps in `window` (equation 6)."""

    rows: Mapping[str, nn.Parameter]
    window: range
    before: dict[str, torch.Tensor] = field(default_factory=dict)

    def note(self) -> None:
        """Before a step."""
        self.before.update({key: value.detach().norm() for key, value in self.rows.items()})

    def keep(self, step: int) -> None:
        """After step `step` of the optimizer."""
        if step in self.window:
            for key, value in self.rows.items():
                value.data *= self.before[key] / value.detach().norm().clamp(min=1e-12)
