"""A concept's prompts for the search: encoded once, before it, with the places in them where searched rows belong; then the towers rest."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from regraft.concepts.host.captions import known
from regraft.concepts.host.diffusion import Batch, Diffusion
from regraft.concepts.host.pipeline import Conditioning, content, encode, towers
from regraft.concepts.host.words import Rows, spliced
from regraft.concepts.kinds.output_rows import Place, overwritten, places
from regraft.concepts.learning import Step, prompts_for
from regraft.concepts.method import Lesson
from regraft.errors import ParameterError

BESIDE = (("a red {}", "a blue {}"), ("a {} on a white background", "a {} on a black background"))
LOOKED_EVERY, TIMES, MOST = 10, 2, 4  # steps between two looks at an effect; times of noise and images of a look


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts and what the towers say of them, the starting phrase first.

    Attributes
    ----------
    texts : with the word in them. context : (n, length, width). where : (n, length), the row of each place, -1 for none.
    real : (m, width), what the towers say at words. count : of rows. pooled : whether XL's pooled vector is searched too.
    """

    texts: list[str]
    context: Conditioning
    where: torch.Tensor
    real: torch.Tensor
    count: int
    pooled: bool

    @classmethod
    def encoded(
        cls, pipeline: Any, texts: Sequence[str], word: str, neutral: Rows, place: Place, count: int | None, pooled: bool
    ) -> "Prompts":
        """One call of each tower. `count` : rows, None for as many as a prompt has places."""
        told, tower = list(dict.fromkeys(texts)), towers(pipeline)[0]
        with spliced(pipeline, {word: neutral}), torch.no_grad():
            context = encode(pipeline, told)
            count = context.embeds.shape[1] if count is None else count
            where = places(pipeline, told, word, place, count).to(context.embeds.device)
            ends = [content(pipeline, text, tower) for text in told]
        if pooled and context.pooled is None:
            raise ParameterError("pooled=true: this pipeline has no pooled vector; only XL's U-Net reads one")
        context = Conditioning(context.embeds.float(), None if context.pooled is None else context.pooled.float())
        real = torch.cat([rows[1:end] for rows, end in zip(context.embeds, ends, strict=True)])
        return cls(told, context, where, real, count, pooled)

    def start(self) -> torch.Tensor:
        """What the towers say of the phrase at the rows' places (count, width), and one row of zeros more for the pooled vector's shift."""
        at = self.where[0]
        order = [int((at == row).nonzero()[0]) for row in range(self.count)]
        return self.with_shift(self.context.embeds[0, order])

    def with_shift(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows (count, width), with a row of zeros behind them where the pooled vector is searched."""
        return torch.cat([rows, torch.zeros_like(rows[:1])]) if self.pooled else rows

    def parted(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Searched rows, and the shift of the pooled vector, which has its own width."""
        if not self.pooled or self.context.pooled is None:
            return rows, None
        return rows[:-1], rows[-1, : self.context.pooled.shape[1]]

    def with_rows(self, chosen: torch.Tensor, rows: torch.Tensor) -> Conditioning:
        """Prompts `chosen` (n,) with rows in their places."""
        rows, shift = self.parted(rows)
        context = self.context[chosen]
        pooled = context.pooled if context.pooled is None or shift is None else context.pooled + shift
        return Conditioning(overwritten(context.embeds, self.where[chosen], rows), pooled)

    def drawn(self, lesson: Lesson, step: Step, sentences: list[str]) -> torch.Tensor:
        """Which prompts the images of a batch get."""
        return torch.tensor([self.texts.index(text) for text in prompts_for(lesson, step, sentences)], device=self.where.device)


def told_in(lesson: Lesson, sentences: Sequence[str]) -> list[str]:
    """All captions that a lesson may draw, with the word in them: sentences, and the images' own."""
    own = [text for text in lesson.pictures.captions.values() if "{}" in text or lesson.word in text]
    return [text.replace("{}", lesson.word) for text in [*sentences, *own]]


@contextmanager
def resting(pipeline: Any) -> Iterator[None]:
    """The text towers do not run: a call raises, and on an accelerator their weights wait on the processor."""

    def refuse(module: Any, args: Any) -> None:
        raise RuntimeError("a text tower was called while rows behind it are searched")

    encoders = [tower.encoder for tower in towers(pipeline)]
    devices = [next(encoder.parameters()).device for encoder in encoders]
    hooks = [encoder.register_forward_pre_hook(refuse) for encoder in encoders]
    for encoder, device in zip(encoders, devices, strict=True):
        if device.type != "cpu":
            encoder.to("cpu")
    try:
        yield
    finally:
        for encoder, device, hook in zip(encoders, devices, hooks, strict=True):
            hook.remove()
            encoder.to(device)


class Effect:
    """How much words beside the concept still matter to the U-Net: its answers to prompts that differ in them only, squared and averaged.

    Called after each step; says that the search should end once the share of the first effect falls below `keep`.
    """

    def __init__(self, diffusion: Diffusion, prompts: Prompts, pairs: Sequence[tuple[str, str]], keep: float) -> None:
        self.diffusion, self.prompts, self.keep = diffusion, prompts, keep
        self.batches = [part_of(batch, MOST) for batch in diffusion.grid(TIMES)]
        self.pairs = [[prompts.texts.index(text) for text in pair] for pair in pairs]
        self.first = self.of(prompts.start())

    @torch.no_grad()
    def of(self, rows: torch.Tensor) -> float:
        """Mean squared difference between the answers."""
        found = []
        for batch in self.batches:
            for pair in self.pairs:
                answers = [self._answer(batch, place, rows) for place in pair]
                found.append((answers[0] - answers[1]).square().mean())
        return float(torch.stack(found).mean())

    def _answer(self, batch: Batch, place: int, rows: torch.Tensor) -> torch.Tensor:
        chosen = torch.full((len(batch.t),), place, device=self.prompts.where.device)
        return self.diffusion.predict(batch, self.prompts.with_rows(chosen, rows))

    def __call__(self, step: int, rows: torch.Tensor) -> str | None:
        if step % LOOKED_EVERY:
            return None
        share = self.of(rows) / max(self.first, 1e-30)
        return f"step {step}: words beside the concept have {share:.0%} of their first effect" if share < self.keep else None


def part_of(batch: Batch, most: int) -> Batch:
    """The first `most` images of a batch."""
    return Batch(*(getattr(batch, name)[:most] for name in ("latents", "noise", "noisy", "t", "rows")))


def pairs_beside(pipeline: Any, init: str, word: str) -> list[tuple[str, str]]:
    """Prompts in pairs that differ in a word beside the concept, all of whose words the pipeline knows. Raises `ParameterError`: none."""
    found = [pair for pair in BESIDE if known(pipeline, pair, init) == list(pair)]
    if not found:
        raise ParameterError("keep: the pipeline's tokenizer knows no pair of words to look at (red and blue, white and black)")
    return [(first.replace("{}", word), second.replace("{}", word)) for first, second in found]
