"""The loops behind the search, compiled: what is kept of a tile of scores, and products in float64.

A row of scores is read once; where no score of a stretch is above the worst that is kept, the stretch costs one comparison a number, eight
numbers at a time. Sums run in the order of the columns, so equal rows have equal products to the last bit.
"""

from collections.abc import Callable
from typing import Any, cast

import numba
import numpy as np

STRETCH = 64


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as machine code that runs beside other threads, kept on disk where there is a place to write."""
    try:
        done = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        done = numba.njit(nogil=True)(function)
    return cast(Callable[..., Any], done)


@compiled
def put_in(values: Any, ids: Any, score: Any, column: Any) -> None:
    """Put `score` among `values` (K,), which fall; behind equal ones, so that of equal scores the lower id is first."""
    place = len(values) - 1
    while place > 0 and values[place - 1] < score:
        values[place], ids[place] = values[place - 1], ids[place - 1]
        place -= 1
    values[place], ids[place] = score, column


@compiled
def keep_rows(scores: Any, first: int, values: Any, ids: Any) -> None:
    """The best of each row of a tile (b, w) into `values`, `ids` (b, K); `first` is the id of its first column."""
    last = values.shape[1] - 1
    for i in range(scores.shape[0]):
        worst = values[i, last]
        for start in range(0, scores.shape[1], STRETCH):
            stop = min(start + STRETCH, scores.shape[1])
            above = 0
            for j in range(start, stop):
                above += scores[i, j] > worst
            if above:
                for j in range(start, stop):
                    if scores[i, j] > worst:
                        put_in(values[i], ids[i], scores[i, j], first + j)
                        worst = values[i, last]


@compiled
def keep_columns(scores: Any, first: int, values: Any, ids: Any) -> None:
    """The best of each column of a tile (b, w) into `values`, `ids` (w, K); `first` is the id of its first row."""
    last = values.shape[1] - 1
    worst = values[:, last].copy()
    for i in range(scores.shape[0]):
        for start in range(0, scores.shape[1], STRETCH):
            stop = min(start + STRETCH, scores.shape[1])
            above = 0
            for j in range(start, stop):
                above += scores[i, j] > worst[j]
            if above:
                for j in range(start, stop):
                    if scores[i, j] > worst[j]:
                        put_in(values[j], ids[j], scores[i, j], first + i)
                        worst[j] = values[j, last]


@compiled
def products(left: Any, right: Any, ids: Any, left_offsets: Any, right_offsets: Any, out: Any) -> None:
    """``out[i, c] = left[i] . right[ids[i, c]] - left_offsets[i] - right_offsets[ids[i, c]]`` in float64; -inf where the id is below 0."""
    for i in range(ids.shape[0]):
        for c in range(ids.shape[1]):
            j = ids[i, c]
            if j < 0:
                out[i, c] = -np.inf
                continue
            total = 0.0
            for d in range(left.shape[1]):
                total += np.float64(left[i, d]) * np.float64(right[j, d])
            out[i, c] = total - left_offsets[i] - right_offsets[j]
