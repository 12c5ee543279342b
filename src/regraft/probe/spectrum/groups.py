"""Moments of random groups of rows, in one pass and in bounded memory.

Enters: blocks of float64 rows. Leaves: B Gram matrices that add up to the whole, and from which draws of rows are made.
"""

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg.blas import dsyrk

from regraft.probe.spectrum.moments import Moments

BYTES = 128 << 20  # of all Gram matrices of one pass
FEWEST, MOST = 4, 32


def group_count(dim: int, kinds: int) -> int:
    """How many groups have room: 32 for narrow rows, 4 for the widest."""
    return max(FEWEST, min(MOST, BYTES // (8 * dim * dim * max(kinds, 1))))


class Groups:
    """Moments of B groups. `add` takes rows that lie group by group."""

    def __init__(self, dim: int, groups: int) -> None:
        # BLAS works in the order of columns; of a symmetric product it fills one triangle, which halves the work
        self.triangles = [np.zeros((dim, dim), order="F") for _ in range(groups)]
        self.totals = np.zeros((groups, dim))
        self.counts = np.zeros((groups, 2), dtype=np.int64)

    def add(self, block: npt.NDArray[np.float64], sizes: npt.NDArray[np.int64], empty: npt.NDArray[np.int64]) -> None:
        """Add rows (n, K): the first `sizes[0]` belong to the first group, and so on; `empty` of each group are all zero."""
        start = 0
        for group, size in enumerate(sizes.tolist()):
            part = block[start : start + size]
            start += size
            if size:
                held = self.triangles[group]
                self.triangles[group] = dsyrk(1.0, part.T, beta=1.0, c=held, overwrite_c=True)
                self.totals[group] += part.sum(0)
        self.counts += np.stack([sizes, empty], 1)

    def moments(self, weights: npt.NDArray[np.float64] | None = None) -> Moments:
        """Of all groups, each as often as `weights` say."""
        weights = np.ones(len(self.triangles)) if weights is None else weights
        upper = np.zeros_like(self.triangles[0])
        for weight, triangle in zip(weights, self.triangles, strict=True):
            if weight:
                upper += weight * triangle
        gram = np.triu(upper) + np.triu(upper, 1).T
        rows, empty = np.rint(weights @ self.counts).astype(np.int64).tolist()
        return Moments(torch.from_numpy(np.ascontiguousarray(gram)), torch.from_numpy(weights @ self.totals), rows, empty)
