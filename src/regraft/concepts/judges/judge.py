"""The contract of a judge, and what its scores come to."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Scores = npt.NDArray[np.float64]


class Judge(ABC):
    """Reads drawn images (n, 3, h, w) in [-1, 1].

    Attributes
    ----------
    accuracy : how well it does on images that it knows the answer for and has not learned from; empty where nothing is known of it.
    """

    accuracy: dict[str, float]

    @abstractmethod
    def identity(self, images: torch.Tensor) -> Scores:
        """How much each image (n,) shows the concept; 1 is all of it."""

    @abstractmethod
    def match(self, images: torch.Tensor, prompts: Sequence[str]) -> Scores:
        """How much each image (n,) shows what else its prompt asks for; `prompts` have the initial word in the place of the concept's."""


def scores(judge: Judge | None, images: torch.Tensor, prompts: Sequence[str]) -> dict[str, Scores]:
    """Identity, prompt match, and their product (n,); nothing without a judge."""
    if judge is None:
        return {}
    identity, match = judge.identity(images), judge.match(images, prompts)
    return {"identity": identity, "prompt_match": match, "joint": identity * match}


def mean_of(found: dict[str, Scores]) -> dict[str, Any]:
    """The mean of each score."""
    return {name: float(values.mean()) for name, values in found.items()}
