r"""CSLS: cosines corrected for hubs, rows that are near to everything.

With :math:`r_T(x)` the mean cosine of x to its k nearest targets and :math:`r_S(z)` that of z to its k nearest sources,
:math:`\mathrm{CSLS}(x, z) = 2 \cos(x, z) - r_T(x) - r_S(z)` (Conneau et al. 2018, section 2.3). Both terms come from one product of the two
tables; ranking is a search in which each row's half term is taken off.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from regraft.align.nearest.search import Floats, Ids, Neighbours, nearest, nearest_both
from regraft.graft import iterate_blocks

Means = npt.NDArray[np.float64]
Criterion = Literal["nn", "csls"]
SHORTEST = 1e-8  # what a row's length is at least taken for: shorter ones are noise without a direction


def unit_float32(rows: Floats) -> npt.NDArray[np.float32]:
    """Rows (n, d) over their lengths, lengths below 1e-8 counted as that; float32, made block by block."""
    out = np.empty(rows.shape, dtype=np.float32)
    for block in iterate_blocks(len(rows), 1 << 14):
        some = rows[block].astype(np.float64)
        out[block] = some / np.maximum(np.linalg.norm(some, axis=1, keepdims=True), SHORTEST)
    return out


def hubness(left: Floats, right: Floats, k: int = 10) -> tuple[Means, Means]:
    """Mean product of each row of `left` (n, d) with its `k` nearest in `right` (m, d), (n,), and the same of `right` in `left`, (m,).

    Of unit rows these are mean cosines; a row of zeros has 0.
    """
    forth, back = nearest_both(left, right, k)
    return _mean(forth), _mean(back)


def _mean(found: Neighbours) -> Means:
    if not found.scores.shape[1]:
        return np.zeros(len(found.scores))
    return np.asarray(np.where(found.ids[:, 0] >= 0, found.scores.mean(1), 0.0))


@dataclass(frozen=True, eq=False)
class Retrieval:
    """Two tables in one space, searched from either side.

    Attributes
    ----------
    left, right : (n, d) and (m, d) unit rows.
    k : neighbours that a hubness term is the mean of.
    """

    left: npt.NDArray[np.float32]
    right: npt.NDArray[np.float32]
    k: int = 10

    @cached_property
    def hubs(self) -> tuple[Means, Means]:
        """Both hubness terms, (n,) and (m,), over the whole tables."""
        return hubness(self.left, self.right, self.k)

    def search(self, rows: Ids | None, top: int, criterion: Criterion = "csls") -> Neighbours:
        """The `top` best rows of `right` for `rows` of `left` (None: all), with cosines ("nn") or both terms of CSLS ("csls")."""
        return self._search(0, rows, top, criterion)

    def search_back(self, rows: Ids | None, top: int, criterion: Criterion = "csls") -> Neighbours:
        """The `top` best rows of `left` for `rows` of `right`."""
        return self._search(1, rows, top, criterion)

    def best_both(self, top: int = 1) -> tuple[Neighbours, Neighbours]:
        """`search` and `search_back` of all rows by CSLS, from one product of the tables."""
        forth, back = nearest_both(self.left, self.right, top, left_offsets=self.hubs[0] / 2, right_offsets=self.hubs[1] / 2)
        return _doubled(forth), _doubled(back)

    def _search(self, side: int, rows: Ids | None, top: int, criterion: Criterion) -> Neighbours:
        tables = (self.left, self.right)
        wanted: Any = slice(None) if rows is None else rows
        if criterion == "nn":
            return nearest(tables[side][wanted], tables[1 - side], top)
        own, other = self.hubs[side][wanted] / 2, self.hubs[1 - side] / 2
        return _doubled(nearest(tables[side][wanted], tables[1 - side], top, offsets=other, query_offsets=own))


def _doubled(found: Neighbours) -> Neighbours:
    return Neighbours(found.ids, 2 * found.scores)
