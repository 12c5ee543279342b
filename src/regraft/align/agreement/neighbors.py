"""Exact search by cosine in blocks: nearest rows, and the rank of a partner; ties go to the smaller id.

Enters: queries (n, d) and a pool (m, d). Leaves: ids (n, k), or ranks (n,). Scores are rounded to 12 decimals, since equal rows get
products that differ in the last bits by their place in a block. Nothing of size n x m is kept.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from regraft.align.aligner import unit_rows
from regraft.errors import ParameterError

Rows = npt.NDArray[np.floating[Any]]
BLOCK_BYTES = 32 << 20
DECIMALS = 12


def nearest(queries: Rows, pool: Rows, k: int, *, own: bool = False) -> tuple[npt.NDArray[np.int64], Rows]:
    """Ids and cosines of the `k` nearest rows of `pool`, both (n, k), best first; a row of length 0 has cosine 0 with all.

    With `own`, queries are the pool itself and no row is its own neighbor. Raises `ParameterError` where the pool has fewer than k.
    """
    there = len(pool) - own
    if not 1 <= k <= there:
        raise ParameterError(f"{k} neighbors of {there} rows: ask for 1 to {there}")
    ids, scores = np.empty((len(queries), k), dtype=np.int64), np.empty((len(queries), k))
    for block, found in score_blocks(queries, pool):
        if own:
            found[np.arange(len(found)), np.arange(block.start, block.start + len(found))] = -np.inf
        border = np.partition(found, len(pool) - k, axis=1)[:, len(pool) - k, None]
        row, column = np.nonzero(found >= border)  # k of each row, and what ties with the last
        value = found[row, column]
        order = np.lexsort((column, -value, row))
        first = np.searchsorted(row, np.arange(len(found)))
        picked = order[first[:, None] + np.arange(k)]
        ids[block], scores[block] = column[picked], value[picked]
    return ids, scores


def ranks(queries: Rows, pool: Rows, partners: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """At which place of all rows of `pool` each query finds its partner, from 1; shape (n,)."""
    out = np.empty(len(queries), dtype=np.int64)
    ids = np.arange(len(pool))
    for block, found in score_blocks(queries, pool):
        own = partners[block]
        score = found[np.arange(len(found)), own][:, None]
        out[block] = 1 + ((found > score) | ((found == score) & (ids < own[:, None]))).sum(1)
    return out


def score_blocks(queries: Rows, pool: Rows) -> Iterator[tuple[slice, Rows]]:
    """Blocks of the cosine matrix: (which queries, (block, m))."""
    left, right = (unit_rows(np.asarray(one, dtype=np.float64)) for one in (queries, pool))
    if left.shape[1] != right.shape[1]:
        raise ParameterError(f"{left.shape[1]} and {right.shape[1]} dimensions can't be compared: map one space into the other first")
    size = max(1, BLOCK_BYTES // (8 * max(1, len(pool))))
    for start in range(0, len(left), size):
        block = slice(start, min(start + size, len(left)))
        yield block, np.round(left[block] @ right.T, DECIMALS)
