"""Unit vectors pushed apart: descent on what pairs of rows exceed a greatest cosine by, in blocks, so that nothing N x N is held.

Enters: unit rows (N, d), of which the first may be fixed. Leaves: rows whose greatest cosine is met, or the best ones seen.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.sparse import check_sparse_tensor_invariants

BLOCK = 512
SPARSE = 0.02  # share of pairs in a block below which only they are multiplied
TOLERANCE = 1e-4
Penalty = Literal["hinge", "squared-hinge", "p-norm"]


@dataclass(frozen=True)
class Descent:
    """How rows are moved. `lr`, `momentum`: of the step; `penalty`: of a pair; `signed`: cosines keep their sign; `p`: of the p-norm."""

    penalty: Penalty = "squared-hinge"
    lr: float = 0.25
    momentum: float = 0.9
    signed: bool = False
    p: float = 16.0

    def slope(self, cosines: Tensor, alpha: float) -> Tensor:
        """The derivative of a pair's penalty by its cosine."""
        size = cosines if self.signed else cosines.abs()
        sign = 1.0 if self.signed else cosines.sign()
        if self.penalty == "hinge":  # sum of ReLU(|c| - alpha), as the paper has it
            return torch.where(size > alpha, sign, 0.0)
        if self.penalty == "squared-hinge":
            return (size - alpha).clamp(min=0) * sign
        return (size.clamp(min=0) / max(alpha, 1e-3)).clamp(max=2.0).pow(self.p - 1) * sign * max(alpha, 1e-3)

    def gradient(self, rows: Tensor, alpha: float, fixed: int = 0, block: int = BLOCK) -> tuple[Tensor, float]:
        """The gradient (N - fixed, d) of the penalties of all ordered pairs, along the sphere, and the greatest cosine.

        Each pair is looked at once; where few of a block exceed `alpha`, only those are multiplied.
        """
        found, greatest = torch.zeros_like(rows), -1.0
        for first, last, cosines in pairs(rows, fixed, block):
            greatest = max(greatest, float((cosines if self.signed else cosines.abs()).max()))
            slope = self.slope(cosines, alpha)
            if self.penalty != "p-norm" and (hot := slope.nonzero()).numel() < 2 * SPARSE * slope.numel():
                with check_sparse_tensor_invariants(False):  # type: ignore[no-untyped-call]
                    few = torch.sparse_coo_tensor(hot.T, slope[hot[:, 0], hot[:, 1]], slope.shape)
                    found[first:last] += torch.sparse.mm(few, rows[:last])
                    found[:last] += torch.sparse.mm(few.t(), rows[first:last])
            else:
                found[first:last] += slope @ rows[:last]
                found[:last] += slope.mT @ rows[first:last]
        found, free = 2 * found[fixed:], rows[fixed:]
        return found - (found * free).sum(1, keepdim=True) * free, greatest

    def run(
        self, rows: Tensor, alpha: float, steps: int, fixed: int = 0, each: Callable[[float], None] | None = None
    ) -> tuple[Tensor, float]:
        """Up to `steps` steps from `rows`, or until the greatest cosine is at most `alpha` + 1e-4; the best rows seen and their cosine."""
        best, reached = rows, 1.0
        speed = torch.zeros_like(rows[fixed:])
        for _ in range(steps):
            gradient, greatest = self.gradient(rows, alpha, fixed)
            if each is not None:
                each(greatest)
            if greatest < reached:
                best, reached = rows, greatest
            if greatest <= alpha + TOLERANCE:
                break
            speed = self.momentum * speed + gradient
            rows = torch.cat([rows[:fixed], normalize(rows[fixed:] - self.lr * speed, dim=1)])
        return best, reached


def pairs(rows: Tensor, fixed: int = 0, block: int = BLOCK) -> Iterator[tuple[int, int, Tensor]]:
    """Blocks [first, last) of rows behind the `fixed` ones, and their cosines (last - first, last) with all rows up to them.

    Each pair stands once: on and right of the diagonal there is 0 (signed bounds below 0: -1 would do as well, no pair is that far apart).
    """
    for first in range(fixed, len(rows), block):
        last = min(len(rows), first + block)
        cosines = rows[first:last] @ rows[:last].mT
        cosines[:, first:last].tril_(-1)
        yield first, last, cosines


def greatest_and_mean(vectors: Tensor, *, signed: bool = False, block: int = BLOCK) -> tuple[float, float]:
    """The greatest and the mean cosine over all pairs, in float64."""
    rows, greatest, total = vectors.double(), -1.0, 0.0
    for first, last, cosines in pairs(rows, block=block):
        size = cosines if signed else cosines.abs()
        total += float(size.sum())
        mask = torch.ones_like(size[:, first:last], dtype=torch.bool).tril(-1)
        greatest = max(
            greatest, float(size[:, :first].max()) if first else -1.0, float(size[:, first:last][mask].max()) if mask.any() else -1.0
        )
    return greatest, total / (len(rows) * (len(rows) - 1) / 2)
