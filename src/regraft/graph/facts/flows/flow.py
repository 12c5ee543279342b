"""Invertible maps of one random variable x ~ N(0, 1), coordinate by coordinate, and distances between what they make of it.

Enters: tensors (..., d) of places and slopes. Leaves: maps that compose and invert, and distances (...,) summed over coordinates
(Xiao, He, Cao 2023, "Knowledge Graph Embedding by Normalizing Flows", sections 4 and 5).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

HALF_MEAN = 1 / math.sqrt(2 * math.pi)  # E[x, where x > 0] of x ~ N(0, 1)


@dataclass(frozen=True, eq=False)
class Affine:
    """x -> scale x + loc. What x ~ N(0, 1) becomes is Gaussian. A relation is one of these."""

    loc: Tensor
    scale: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return self.scale * x + self.loc

    def then(self, outer: "Affine") -> "Affine":
        """`outer` after this map."""
        return Affine(outer.scale * self.loc + outer.loc, outer.scale * self.scale)

    def inverse(self) -> "Affine":
        """The map back; a scale of 0 has none, and gives infinities."""
        return Affine(-self.loc / self.scale, 1 / self.scale)

    @property
    def mean(self) -> Tensor:
        """(..., d) of what x becomes."""
        return self.loc

    @property
    def std(self) -> Tensor:
        """(..., d) of what x becomes."""
        return self.scale.abs()


@dataclass(frozen=True, eq=False)
class Piecewise:
    """x -> below x + loc left of 0, above x + loc from 0 on. Invertible where both slopes have one sign."""

    loc: Tensor
    below: Tensor
    above: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return torch.where(x < 0, self.below, self.above) * x + self.loc

    def then(self, outer: Affine) -> "Piecewise":
        """`outer` after this map."""
        return Piecewise(outer.scale * self.loc + outer.loc, outer.scale * self.below, outer.scale * self.above)

    def back(self, y: Tensor) -> Tensor:
        """The x that `y` comes from. The inverse bends at `loc` and not at 0, and so is no `Piecewise`."""
        moved = y - self.loc
        left = (moved < 0) == (self.above > 0)
        return moved / torch.where(left, self.below, self.above)

    @property
    def mean(self) -> Tensor:
        """(..., d) of what x becomes."""
        return self.loc + HALF_MEAN * (self.above - self.below)

    @property
    def std(self) -> Tensor:
        """(..., d) of what x becomes."""
        second = (self.below.square() + self.above.square()) / 2
        return (second - (HALF_MEAN * (self.above - self.below)).square()).clamp(min=0).sqrt()


Flow = Affine | Piecewise


def wasserstein(one: Affine, other: Affine) -> Tensor:
    """Squared 2-Wasserstein distance of the two Gaussians (NFE-1)."""
    return ((one.loc - other.loc).square() + (one.std - other.std).square()).sum(-1)


def expected_gap(one: Piecewise, other: Piecewise) -> Tensor:
    """E[(one(x) - other(x))^2], slopes taken by their absolute values (NFE-2).

    The authors' code multiplies by 2 E[x, x > 0] of N(0, 1) as here; it has the constant of a uniform x beside it, unused.
    """
    loc, below, above = one.loc - other.loc, one.below.abs() - other.below.abs(), one.above.abs() - other.above.abs()
    return (loc.square() + (below.square() + above.square()) / 2 + 2 * HALF_MEAN * loc * (above - below)).sum(-1)


def divergence(one: Affine, other: Affine) -> Tensor:
    """KL(one || other) of the two Gaussians; scales above 0 (NFE-3)."""
    spread = other.scale.log() - one.scale.log()
    return (spread + (one.scale.square() + (one.loc - other.loc).square()) / (2 * other.scale.square()) - 0.5).sum(-1)
