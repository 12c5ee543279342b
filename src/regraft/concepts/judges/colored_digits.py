"""The judge of `toy-t2i`: is it the concept's digit, and does it have every color that the prompt names?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from regraft.concepts.judges.judge import Judge, Scores
from regraft.concepts.toy.judge import Judge as Reader
from regraft.concepts.toy.pictures import BACKGROUNDS, FOREGROUNDS


@dataclass(frozen=True, eq=False)
class DigitJudge(Judge):
    """`digit` : what the concept's own images show."""

    reader: Reader
    digit: int

    @classmethod
    def of(cls, references: torch.Tensor) -> "DigitJudge":
        """The digit that most of the concept's images are read as."""
        reader = Reader.load()
        digits, _ = reader.read(references)
        return cls(reader, int(np.bincount(digits).argmax()))

    @property
    def accuracy(self) -> dict[str, float]:  # type: ignore[override]
        return self.reader.accuracy

    def identity(self, images: torch.Tensor) -> Scores:
        """1 where the digit is the concept's."""
        return np.asarray(self.reader.read(images)[0] == self.digit, dtype=np.float64)

    def match(self, images: torch.Tensor, prompts: Sequence[str]) -> Scores:
        """1 where every color that the prompt names is there."""
        _, colors = self.reader.read(images)
        return np.array([float(_asked(prompt) <= set(found)) for prompt, found in zip(prompts, colors, strict=True)])


def _asked(prompt: str) -> set[str]:
    return set(prompt.split()) & (FOREGROUNDS.keys() | BACKGROUNDS.keys())
