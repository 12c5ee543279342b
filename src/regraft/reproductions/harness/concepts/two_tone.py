"""Digits whose upper half has one color and whose lower half another: a concept that no color word covers, and how its images are read."""

from dataclasses import dataclass

import numpy as np
import torch

from regraft.concepts.judges.judge import Scores
from regraft.concepts.toy.judge import Judge, named, uncolored
from regraft.concepts.toy.pictures import BACKGROUNDS, FOREGROUNDS


@dataclass(frozen=True)
class Seen:
    """What images show: `digit` (n,), `upper` and `lower` colors of the stroke, `background`."""

    digit: np.ndarray
    upper: np.ndarray
    lower: np.ndarray
    background: np.ndarray

    def of(self, digit: int) -> Scores:
        """1 where it is that digit."""
        return np.asarray(self.digit == digit, dtype=np.float64)

    def toned(self, upper: str, lower: str) -> Scores:
        """1 where both halves have their color."""
        return np.asarray((self.upper == upper) & (self.lower == lower), dtype=np.float64)

    def on(self, background: str) -> Scores:
        """1 where the background has that color."""
        return np.asarray(self.background == background, dtype=np.float64)


def read(judge: Judge, images: torch.Tensor) -> Seen:
    """Images (n, 3, h, w) in [-1, 1], each half uncolored beside its own reflection."""
    half = images.shape[2] // 2
    upper, lower = images.float()[:, :, :half], images.float()[:, :, half:]
    parts = [uncolored(torch.cat([one, one.flip(2)], 2)) for one in (upper, lower.flip(2))]
    stroke = torch.cat([parts[0][0][:, :half], parts[1][0][:, half:]], 1)
    _, _, background = uncolored(images)
    above, below = (np.array(named(fg, FOREGROUNDS)) for _, fg, _ in parts)
    return Seen(judge.scores(stroke).argmax(1).numpy(), above, below, np.array(named(background, BACKGROUNDS)))
