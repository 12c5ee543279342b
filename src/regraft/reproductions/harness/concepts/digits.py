"""Digits that the toy pipeline has no word for, taught from six pictures in one coloring, and judged in colorings nobody showed.

`attr` : both colors of the prompt are there. `joint` : and the digit is the concept's. `identity` : of a prompt without colors.
`loss` : on held-out pictures with noise that is always the same. `ctx` : cosine of what the text tower says behind the word to what it says
behind "digit". Digits are not mirrored: methods that flip pictures are run with ``flip=0``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from regraft.concepts.concept import Concept
from regraft.concepts.drawing import Drawing, draw
from regraft.concepts.host.diffusion import Diffusion
from regraft.concepts.host.images import Pictures
from regraft.concepts.host.pipeline import open_pipeline
from regraft.concepts.judges.colored_digits import DigitJudge
from regraft.concepts.judges.judge import Scores
from regraft.concepts.measures import context_cosine, losses
from regraft.concepts.method import Lesson
from regraft.concepts.toy import NAME
from regraft.concepts.toy.pictures import CATEGORY, HIDDEN, concept
from regraft.reproductions.harness.claim import Sample

__all__ = ["HIDDEN", "Judged", "Task", "judged", "samples", "task"]

WORD = "<my-digit>"
TAUGHT, HELD_OUT, PER_COLORING = 6, 24, 24
PLAIN = "a photo of a {}"
UNSEEN = (
    "a photo of a green {} on a white background",
    "a photo of a blue {} on a gray background",
    "a photo of a yellow {} on a brown background",
)
BEHIND = ("a {} on a white background", "a drawing of the {} on a brown background", "a picture of a {} in plain style")
HOW = Drawing(steps=20, guidance=3.0, seed=1000, batch=24)


@dataclass(frozen=True, eq=False)
class Task:
    """One hidden digit. `lesson` : pictures to learn from. `held_out` : others of the same digit and coloring. `judge` : of drawings."""

    digit: int
    lesson: Lesson
    held_out: Pictures
    judge: DigitJudge


@dataclass(frozen=True, eq=False)
class Judged:
    """What a concept came to; each an array over images (`loss`: over noise and held-out pictures). `ctx` is one number."""

    attr: Scores
    joint: Scores
    identity: Scores
    loss: Scores
    ctx: float


def task(digit: int, *, colors: Sequence[tuple[Any, str]] = (("red", "black"),), taught: int = TAUGHT, pipeline: Any = None) -> Task:
    """`digit` taught from `taught` pictures, shared out over `colors` (foreground or its two halves, background)."""
    pipeline = pipeline or open_pipeline(NAME)
    each = [concept(digit, fg, bg, taught // len(colors) + HELD_OUT, seed=place) for place, (fg, bg) in enumerate(colors)]
    cut = taught // len(colors)
    shown, others = torch.cat([one[:cut] for one in each]), torch.cat([one[cut:] for one in each])[:HELD_OUT]
    names = [[f"{i}.png" for i in range(len(part))] for part in (shown, others)]
    lesson = Lesson(pipeline, Pictures(shown, names[0]), WORD, CATEGORY)
    return Task(digit, lesson, Pictures(others, names[1]), DigitJudge.of(others))


def judged(given: Task, taught: Concept | None, *, per_coloring: int = PER_COLORING, prompts: Sequence[str] = UNSEEN) -> Judged:
    """Draw and measure a concept; None: the word "digit" itself."""
    pipeline, concepts = given.lesson.pipeline, [] if taught is None else [taught]
    word = CATEGORY if taught is None else taught.word
    asked = [prompt.format(word) for prompt in prompts for _ in range(per_coloring)]
    drawn = draw(pipeline, concepts, asked, HOW)
    attr = given.judge.match(drawn, asked)
    plain = draw(pipeline, concepts, [PLAIN.format(word)] * per_coloring, HOW)
    loss = losses(pipeline, concepts, Diffusion(pipeline, given.held_out.images), PLAIN.format(word)).ravel()
    ctx = 1.0 if taught is None else context_cosine(pipeline, taught, CATEGORY, BEHIND)
    return Judged(attr, attr * given.judge.identity(drawn), given.judge.identity(plain), loss, ctx)


def samples(found: Sequence[Sequence[Judged]], score: str) -> Sample:
    """`found[seed][digit]` as one sample: images of all digits in a row, a row a seed."""
    rows = np.stack([np.concatenate([np.atleast_1d(getattr(one, score)) for one in digits]) for digits in found])
    return Sample(rows, np.ones_like(rows))
