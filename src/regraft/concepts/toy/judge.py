"""Reads a drawn image: which digit, in which colors.

The coloring is undone first (background: median of the border; foreground: median of the pixels farthest from it; stroke: projection on
their difference), then a small network reads the stroke, and colors are the nearest of the palette.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cross_entropy

from regraft.concepts.toy.pictures import BACKGROUNDS, FOREGROUNDS, paint, strokes
from regraft.progress import progress_bar

FARTHEST = 0.06  # share of pixels that tells the color of the stroke
FILE = Path(__file__).parent / "judge.safetensors"


def uncolored(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Strokes (n, h, w) in [0, 1], foregrounds (n, 3) and backgrounds (n, 3) in [0, 1], of images (n, 3, h, w) in [-1, 1]."""
    given = (images.float().clamp(-1, 1) + 1) / 2
    border = torch.cat([given[:, :, 0], given[:, :, -1], given[:, :, :, 0], given[:, :, :, -1]], dim=2)
    bg = border.median(dim=2).values
    pixels = given.flatten(2)
    far = (pixels - bg[:, :, None]).norm(dim=1)
    top = far.topk(max(1, round(FARTHEST * far.shape[1])), dim=1).indices
    fg = pixels.gather(2, top[:, None].expand(-1, 3, -1)).median(dim=2).values
    along = fg - bg
    stroke = ((pixels - bg[:, :, None]) * along[:, :, None]).sum(1) / along.square().sum(1, keepdim=True).clamp(min=1e-3)
    return stroke.clamp(0, 1).view(given.shape[0], *given.shape[2:]), fg, bg


def named(colors: torch.Tensor, palette: Mapping[str, tuple[float, ...]]) -> list[str]:
    """The nearest name of each color (n, 3)."""
    names = list(palette)
    return [names[int(place)] for place in torch.cdist(colors, torch.tensor(list(palette.values()))).argmin(1)]


class Reader(nn.Sequential):
    """Strokes (n, 1, 32, 32) in [0, 1] to scores (n, 10): three convolutions."""

    def __init__(self) -> None:
        layers = [nn.Conv2d(1, 16, 3, 2, 1), nn.GELU(), nn.Conv2d(16, 32, 3, 2, 1), nn.GELU(), nn.Conv2d(32, 48, 3, 1, 1), nn.GELU()]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(0.3), nn.Linear(768, 10))


@dataclass(frozen=True, eq=False)
class Judge:
    """A reader of drawn images."""

    reader: Reader

    @classmethod
    @functools.cache
    def load(cls) -> "Judge":
        """The judge that lies beside the pipeline."""
        reader = Reader()
        reader.load_state_dict({name: value.float() for name, value in load_file(FILE).items()})
        return cls(reader.eval().requires_grad_(False))

    @classmethod
    def train(cls, epochs: int = 20) -> "Judge":
        """A judge from the digits that train the pipeline, moved by up to two pixels."""
        torch.manual_seed(0)
        shapes, digits = strokes(held_out=False)
        reader, names = Reader(), torch.from_numpy(digits)
        steps = epochs * len(shapes) // 64
        optimizer = torch.optim.AdamW(reader.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
        with progress_bar("judge", steps) as bar:
            for _ in range(steps):
                rows = torch.randint(len(shapes), (64,))
                moved = torch.roll(shapes[rows], torch.randint(-2, 3, (2,)).tolist(), (1, 2))
                loss = cross_entropy(reader(moved[:, None]), names[rows], label_smoothing=0.05)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                bar.advance(1)
        return cls(reader.eval().requires_grad_(False))

    def save(self) -> None:
        """Put it beside the pipeline, as float16."""
        save_file({name: value.half().contiguous() for name, value in self.reader.state_dict().items()}, FILE)

    def read(self, images: torch.Tensor) -> tuple[np.ndarray, list[tuple[str, str]]]:
        """The digit (n,) and the colors (foreground, background) of images (n, 3, 32, 32) in [-1, 1]."""
        stroke, fg, bg = uncolored(images)
        return self.scores(stroke).argmax(1).numpy(), list(zip(named(fg, FOREGROUNDS), named(bg, BACKGROUNDS), strict=True))

    def scores(self, stroke: torch.Tensor) -> torch.Tensor:
        """How much each digit is meant, (n, 10), by strokes (n, 32, 32)."""
        return self.reader(stroke[:, None])  # type: ignore[no-any-return]

    @functools.cached_property
    def accuracy(self) -> dict[str, float]:
        """Shares of held-out painted digits whose digit, and whose both colors, are read right."""
        shapes, right = strokes(held_out=True)
        rng = np.random.default_rng(0)
        fg, bg = rng.integers(len(FOREGROUNDS), size=len(shapes)), rng.integers(len(BACKGROUNDS), size=len(shapes))
        palette, ground = torch.tensor(list(FOREGROUNDS.values())), torch.tensor(list(BACKGROUNDS.values()))
        found, colors = self.read(paint(shapes, palette[fg], ground[bg]))
        told = [(list(FOREGROUNDS)[a], list(BACKGROUNDS)[b]) for a, b in zip(fg, bg, strict=True)]
        colored = [a == b for a, b in zip(colors, told, strict=True)]
        return {"identity": float((found == right).mean()), "colors": float(np.mean(colored))}
