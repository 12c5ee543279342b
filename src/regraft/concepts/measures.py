"""What is measured of a taught concept beside what a judge sees: its loss on fixed noise, and how much it disturbs its neighbors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from regraft.concepts.concept import Concept, context_of, together
from regraft.concepts.host.diffusion import Diffusion
from regraft.concepts.host.pipeline import content, encode, towers
from regraft.concepts.host.words import slots
from regraft.concepts.judges.judge import Scores

TIMES = 10  # moments of noise at which a loss is measured


def losses(pipeline: Any, concepts: Sequence[Concept], diffusion: Diffusion, caption: str, times: int = TIMES) -> Scores:
    """The loss of each picture at each of `times` moments of noise that is always the same (times, pictures), with `caption` said of it."""
    with together(pipeline, concepts), torch.no_grad():
        context = context_of(pipeline, concepts, [caption] * len(diffusion.moments[0][0]))  # type: ignore[index]
        return np.stack([diffusion.losses(batch, context).cpu().numpy() for batch in diffusion.grid(times)]).astype(np.float64)


@dataclass(frozen=True)
class Detected:
    """Whether anything was learned: the mean loss `before` (the initial word) and `after` (the concept), their difference with the half
    width of its 95 % interval over pictures and noise."""

    before: float
    after: float
    change: float
    half_width: float

    @property
    def learned(self) -> bool:
        return self.change + self.half_width < 0

    def __str__(self) -> str:
        told = f"{self.before:.4f} to {self.after:.4f} ({self.change:+.4f} ± {self.half_width:.4f})"
        if self.learned:
            return f"learned: the loss on these pictures fell from {told}"
        return f"nothing learned for certain: the loss on these pictures went from {told}. Give more steps, another lr, or another --init"


def detect(before: Scores, after: Scores) -> Detected:
    """The paired difference of two losses of the same pictures and noise."""
    gap = (after - before).ravel()
    return Detected(float(before.mean()), float(after.mean()), float(gap.mean()), float(1.96 * gap.std(ddof=1) / np.sqrt(len(gap))))


def context_cosine(pipeline: Any, concept: Concept, init: str, sentences: Sequence[str]) -> float:
    """Mean cosine between what the text tower says at places behind the concept's word, and behind `init` in its place.

    1: neighbors in the prompt do not notice that the word is another one; low: it drowns them.
    """
    found = []
    first = towers(pipeline)[0]
    with together(pipeline, [concept]), torch.no_grad():
        for sentence in sentences:
            prompts = [sentence.format(one) for one in (concept.word, init)]
            context = context_of(pipeline, [concept], prompts[:1]).embeds[0], encode(pipeline, prompts[1:]).embeds[0]
            ends = [content(pipeline, prompt, first) for prompt in prompts]
            starts = [max(slots(pipeline, prompt, word)) + 1 for prompt, word in zip(prompts, (concept.word, init), strict=True)]
            behind = [one[start:end] for one, start, end in zip(context, starts, ends, strict=True)]
            found.append(torch.cosine_similarity(behind[0].float(), behind[1].float(), dim=1).mean())
    return float(torch.stack(found).mean())
