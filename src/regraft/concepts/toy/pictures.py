"""What the toy pipeline knows: digits in two colors on a background, and what is said of them.

Images are (n, 3, 32, 32) in [-1, 1]; `paint` colors strokes in [0, 1]. Eight tenths of the digits train the pipeline and the judge, the
rest is held out: concepts are taught from it, and judged on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from regraft.datasets.mnist import mnist

FOREGROUNDS = {
    "red": (0.9, 0.1, 0.1),
    "green": (0.1, 0.75, 0.15),
    "blue": (0.15, 0.25, 0.95),
    "yellow": (0.95, 0.9, 0.1),
    "pink": (1.0, 0.45, 0.75),
    "cyan": (0.1, 0.85, 0.9),
}
BACKGROUNDS = {"black": (0.0, 0.0, 0.0), "white": (1.0, 1.0, 1.0), "gray": (0.5, 0.5, 0.5), "brown": (0.4, 0.22, 0.08)}
WORDS = ("zero", "one", "digit", "three", "digit", "five", "six", "digit", "eight", "nine")  # 2, 4 and 7 have no name
HIDDEN, CATEGORY = (2, 4, 7), "digit"
TEMPLATES = (
    "a photo of a {}",
    "a picture of a {}",
    "a drawing of the {}",
    "an image of a {}",
    "a {}",
    "the {}",
    "a picture of the {}",
    "a {} in plain style",
)
HELD_OUT = 0.2
GENERAL, TWO_TONE, UNTOLD = 0.12, 0.1, 0.1  # shares: a digit called "digit", painted in two colors, a caption without one part


@dataclass(frozen=True, eq=False)
class Pictures:
    """Painted digits. `images` (n, 3, 32, 32) in [-1, 1]; `digits` (n,); `captions`, one each; `colors` (foreground, background)."""

    images: torch.Tensor
    digits: np.ndarray
    captions: list[str]
    colors: list[tuple[str, str]]


def strokes(held_out: bool) -> tuple[torch.Tensor, np.ndarray]:
    """Digits (n, 32, 32) in [0, 1] and their names (n,), of one side of the split; the same every time."""
    images, digits = mnist()
    order = np.random.default_rng(0).permutation(len(images))
    cut = round(len(order) * (1 - HELD_OUT))
    rows = order[cut:] if held_out else order[:cut]
    padded = np.pad(images[rows], ((0, 0), (2, 2), (2, 2)))
    return torch.from_numpy(padded), digits[rows]


def paint(shapes: torch.Tensor, fg: torch.Tensor, bg: torch.Tensor, lower: torch.Tensor | None = None) -> torch.Tensor:
    """Shapes (n, h, w) in [0, 1] in colors `fg` over `bg`, each (n, 3) in [0, 1]; the lower half in `lower`.

    Returns (n, 3, h, w) in [-1, 1].
    """
    color = fg[:, :, None, None].expand(-1, -1, *shapes.shape[1:]).clone()
    if lower is not None:
        half = shapes.shape[1] // 2
        color[:, :, half:] = lower[:, :, None, None]
    return 2 * (shapes[:, None] * color + (1 - shapes[:, None]) * bg[:, :, None, None]) - 1


def describe(word: str, fg: str | None, bg: str | None, template: str) -> str:
    """The caption of a word in its colors, where they are told."""
    thing = " ".join([one for one in (fg, word) if one])
    return template.format(f"{thing} on a {bg} background" if bg else thing)


def draw(count: int, rng: np.random.Generator, *, held_out: bool = False) -> Pictures:
    """`count` painted digits with captions, as the pipeline learns them."""
    shapes, digits = strokes(held_out)
    rows = rng.integers(len(shapes), size=count)
    fgs, bgs = list(FOREGROUNDS), list(BACKGROUNDS)
    fg, bg = rng.integers(len(fgs), size=count), rng.integers(len(bgs), size=count)
    other = (fg + rng.integers(1, len(fgs), size=count)) % len(fgs)
    toned = rng.random(count) < TWO_TONE
    lower = np.where(toned, other, fg)
    palette, ground = torch.tensor(list(FOREGROUNDS.values())), torch.tensor(list(BACKGROUNDS.values()))
    images = paint(shapes[rows], palette[fg], ground[bg], palette[lower])
    captions = []
    for i in range(count):
        word = CATEGORY if rng.random() < GENERAL else WORDS[digits[rows[i]]]
        told = rng.random()
        with_fg = not toned[i] and (told < 1 - 2 * UNTOLD)
        with_bg = told < 1 - 3 * UNTOLD or 1 - 2 * UNTOLD <= told < 1 - UNTOLD
        template = TEMPLATES[rng.integers(len(TEMPLATES))]
        captions.append(describe(word, fgs[fg[i]] if with_fg else None, bgs[bg[i]] if with_bg else None, template))
    return Pictures(images, digits[rows], captions, [(fgs[a], bgs[b]) for a, b in zip(fg, bg, strict=True)])


def concept(digit: int, fg: str | Sequence[str], bg: str, count: int, *, seed: int = 0) -> torch.Tensor:
    """`count` held-out images (count, 3, 32, 32) in [-1, 1] of one digit in one coloring; two `fg`: the upper and the lower half."""
    shapes, digits = strokes(held_out=True)
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(digits == digit))[:count]
    upper, lower = (fg, fg) if isinstance(fg, str) else fg
    colors = [torch.tensor(FOREGROUNDS[one]).expand(count, 3) for one in (upper, lower)]
    return paint(shapes[rows], colors[0], torch.tensor(BACKGROUNDS[bg]).expand(count, 3), colors[1])
