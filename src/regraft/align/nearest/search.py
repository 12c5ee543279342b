"""Which rows of another table have the largest inner products, exactly.

Enters: two tables, float32, and how many neighbours are wanted. Leaves: their ids and float64 scores, best first, of equal scores the lower
id first. Tiles of float32 products are scanned for a few more candidates than are wanted; candidates are computed again in float64; and
where rounding could have hidden one (the bound is that of a float32 sum), the row is searched again more widely, at last in float64 alone.
One product of the tables serves both directions. Rows of zeros are no one's neighbours and have none.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import ThreadpoolController

from regraft.align.nearest.kernels import keep_columns, keep_rows, products
from regraft.errors import RowsError
from regraft.graft import iterate_blocks
from regraft.progress import progress_bar

Floats = npt.NDArray[np.floating[Any]]
Ids = npt.NDArray[np.int64]
TILE = (1024, 4096)  # 16 MB of scores
SPARE = (8, 248)  # candidates beyond those wanted: at first, and where that was not enough
UNIT = 2.0**-24  # relative rounding error of float32
LONG = 2e9  # products from which on progress is shown


@dataclass(frozen=True)
class Neighbours:
    """`ids` (n, k), -1 where a row of zeros asked, and float64 `scores` (n, k), -inf there; best first, of equals the lower id first."""

    ids: Ids
    scores: npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Side:
    """One table as it is searched: its rows that are not all zero, their ids, what is taken off their scores."""

    rows: npt.NDArray[np.float32]
    ids: Ids
    count: int
    offsets: npt.NDArray[np.float64]
    shifted: bool

    @classmethod
    def of(cls, table: Floats, offsets: Floats | None) -> "_Side":
        rows = np.ascontiguousarray(table, dtype=np.float32)
        if rows.ndim != 2 or not np.isfinite(rows).all():
            raise RowsError(f"a table of shape {rows.shape} is searched: give rows of finite numbers, shape (n, d)")
        live = np.flatnonzero(rows.any(1))
        rows, taken = (rows, np.zeros(len(rows))) if len(live) == len(rows) else (rows[live], np.zeros(len(live)))
        if offsets is not None:
            taken = np.asarray(offsets, dtype=np.float64)[live]
        return cls(rows, live, len(table), taken, offsets is not None)

    def longest(self) -> float:
        return float(np.sqrt(np.einsum("ij,ij->i", self.rows, self.rows, dtype=np.float64).max(initial=0.0)))

    def widened(self, mine: int, other: bool) -> npt.NDArray[np.float32]:
        """Rows whose inner products are scores less both offsets: (row, -offset, 1) on the one side, (row, 1, -offset) on the other."""
        if not (self.shifted or other):
            return self.rows
        extra = np.ones((len(self.rows), 2), dtype=np.float32)
        extra[:, mine] = -self.offsets
        return np.hstack([self.rows, extra])


def nearest(queries: Floats, targets: Floats, k: int, *, offsets: Floats | None = None, query_offsets: Floats | None = None) -> Neighbours:
    """The `k` rows of `targets` (m, d) with the largest ``query . target - offset - query_offset`` for each of `queries` (n, d).

    There are fewer where fewer rows have a direction. Raises `ParameterError`: NaN, other dimensions, `k` below 1.
    """
    return _found(_Side.of(queries, query_offsets), _Side.of(targets, offsets), k, back=False)[0]


def nearest_both(
    left: Floats, right: Floats, k: int, *, left_offsets: Floats | None = None, right_offsets: Floats | None = None
) -> tuple[Neighbours, Neighbours]:
    """What `nearest` finds for the rows of `left` (n, d) in `right` (m, d), and for those of `right` in `left`, at half the cost of two."""
    first, second = _found(_Side.of(left, left_offsets), _Side.of(right, right_offsets), k, back=True)
    assert second is not None  # asked for
    return first, second


def mutual(forth: Neighbours, back: Neighbours) -> Ids:
    """Pairs (row, row) that are each other's first neighbour, by the first row; shape (pairs, 2)."""
    best, other = forth.ids[:, 0], back.ids[:, 0]
    rows = np.flatnonzero(best >= 0)
    rows = rows[other[best[rows]] == rows]
    return np.column_stack([rows, best[rows]])


def _found(left: _Side, right: _Side, k: int, *, back: bool) -> tuple[Neighbours, Neighbours | None]:
    if k < 1:
        raise RowsError(f"k={k} neighbours: choose 1 or more")
    if left.rows.shape[1] != right.rows.shape[1]:
        raise RowsError(f"tables of {left.rows.shape[1]} and {right.rows.shape[1]} dimensions are not one space: map one first")
    kept = _scan(left, right, k + SPARE[0], back)
    error = _rounding(left, right)
    first = _settled(left, right, k, kept[0], error)
    return _placed(first, left, right), _placed(_settled(right, left, k, kept[1], error), right, left) if back else None


def _rounding(left: _Side, right: _Side) -> float:
    """The most that a float32 score can be off."""
    shift = np.abs(left.offsets).max(initial=0.0) + np.abs(right.offsets).max(initial=0.0)
    return float((left.rows.shape[1] + 4) * UNIT * (left.longest() * right.longest() + 2 * shift))


def _scan(left: _Side, right: _Side, keep: int, back: bool) -> tuple[Any, Any]:
    """The `keep` best float32 scores of each row and, with `back`, of each column: (values, ids) of shape (n, keep), ids -1 where none."""
    n, m = len(left.rows), len(right.rows)
    kept = [(np.full((size, keep), -np.inf, dtype=np.float32), np.full((size, keep), -1, dtype=np.int64)) for size in (n, m if back else 0)]
    a, b = left.widened(0, right.shifted), right.widened(1, left.shifted).T
    threads, space = torch.get_num_threads(), np.empty(TILE[0] * TILE[1], dtype=np.float32)
    long = float(n) * m > LONG
    progress: AbstractContextManager[Any] = progress_bar("comparing rows", total=n) if long else nullcontext()
    with progress as bar, ThreadPoolExecutor(threads) as pool, one_thread_a_product():
        for rows in iterate_blocks(n, TILE[0]):
            for columns in iterate_blocks(m, TILE[1]):
                height, width = rows.stop - rows.start, columns.stop - columns.start
                tile = space[: height * width].reshape(height, width)

                def compare(share: slice, rows: slice = rows, columns: slice = columns, tile: Any = tile) -> None:
                    np.matmul(a[rows][share], b[:, columns], out=tile[share])
                    keep_rows(tile[share], columns.start, *_part(kept[0], rows, share))

                list(pool.map(compare, iterate_blocks(height, -(-height // threads))))
                if back:
                    jobs = [
                        pool.submit(keep_columns, tile[:, share], rows.start, *_part(kept[1], columns, share))
                        for share in iterate_blocks(width, -(-width // threads))
                    ]
                    for job in jobs:
                        job.result()
            if bar is not None:
                bar.advance(rows.stop - rows.start)
    return kept[0], kept[1]


@functools.cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()  # finding them takes milliseconds, each time


def one_thread_a_product() -> AbstractContextManager[Any]:
    """NumPy's products take one thread each meanwhile: the threads here are ours, as many as PyTorch was allowed.

    NumPy's library is used because PyTorch's is a third slower on AMD processors.
    """
    limited: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return limited


def _part(kept: tuple[Any, Any], block: slice, share: slice) -> tuple[Any, Any]:
    inner = slice(block.start + share.start, block.start + share.stop)
    return kept[0][inner], kept[1][inner]


def _settled(left: _Side, right: _Side, k: int, kept: tuple[Any, Any], error: float) -> Neighbours:
    """The exact best of the candidates; rows of which rounding may have hidden one are searched again."""
    values, ids = kept
    found = _ordered(left, right, ids, k)
    if ids.shape[1] >= len(right.rows) or not len(left.rows):  # all are candidates
        return found
    unsure = np.flatnonzero(found.scores[:, -1] <= values[:, -1].astype(np.float64) + error)
    if not len(unsure):
        return found
    some = _Side(left.rows[unsure], unsure, len(left.rows), left.offsets[unsure], left.shifted)
    if ids.shape[1] < k + SPARE[1] < len(right.rows):
        again = _settled(some, right, k, _scan(some, right, k + SPARE[1], back=False)[0], error)
    else:
        again = _exhausted(some, right, k)
    found.ids[unsure], found.scores[unsure] = again.ids, again.scores
    return found


def _exhausted(left: _Side, right: _Side, k: int) -> Neighbours:
    """Every product in float64, a few rows at a time."""
    parts = []
    everyone = np.arange(len(right.rows))
    for rows in iterate_blocks(len(left.rows), max(1, (32 << 20) // (16 * len(right.rows)))):
        some = _Side(left.rows[rows], left.ids[rows], left.count, left.offsets[rows], left.shifted)
        parts.append(_ordered(some, right, np.tile(everyone, (len(some.rows), 1)), k))
    return Neighbours(np.concatenate([part.ids for part in parts]), np.concatenate([part.scores for part in parts]))


def _ordered(left: _Side, right: _Side, ids: Ids, k: int) -> Neighbours:
    """Candidates by exact score, then by id, the first `k` of each row."""
    ids = np.sort(ids, axis=1)
    scores = np.empty(ids.shape)
    products(left.rows, right.rows, ids, left.offsets, right.offsets, scores)
    order = np.argsort(-scores, axis=1, kind="stable")[:, : min(k, len(right.rows))]
    return Neighbours(np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1))


def _placed(found: Neighbours, left: _Side, right: _Side) -> Neighbours:
    """Among all rows of both tables, with those of zeros."""
    width = found.ids.shape[1]
    ids, scores = np.full((left.count, width), -1, dtype=np.int64), np.full((left.count, width), -np.inf)
    ids[left.ids] = np.where(found.ids >= 0, right.ids[found.ids], -1) if len(right.ids) else -1
    scores[left.ids] = found.scores
    return Neighbours(ids, scores)
