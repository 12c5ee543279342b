"""Random walks on a graph, compiled. Each walk has a seed of its own.

Enters: a graph, a node a walk, a length. Leaves: (walks, length + 1) nodes; what they look like without names; how often each is visited.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from regraft.errors import InputError
from regraft.graph.edges import Graph

Walks = npt.NDArray[np.int32]
TOGETHER = 64  # walks that take a step in turn
GOLDEN, FIRST, SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def walk(graph: Graph, starts: npt.NDArray[np.int64], length: int, *, seed: int = 0, p: float = 1.0, q: float = 1.0) -> Walks:
    """(len(starts), length + 1) nodes: each step to a neighbour, as likely as its edge weighs. A node without neighbours repeats itself.

    With `p` and `q` other than 1, going back is 1 / p and going to where the last node does not lead 1 / q times as likely (node2vec,
    section 3.2). Raises `InputError`: `p` or `q` not above 0.
    """
    if p <= 0 or q <= 0:
        raise InputError(f"p={p:g}, q={q:g}: both must be above 0")
    matrix = graph.adjacency
    pointers, neighbours = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
    weighted = bool((matrix.data != 1).any())
    if p == q == 1 and not weighted:
        plain: Walks = _walk_plain(pointers, neighbours, starts.astype(np.int32), length, np.uint64(seed))
        return plain
    sums = np.cumsum(matrix.data, dtype=np.float64) if weighted else np.zeros(1)
    found: Walks = _walk(pointers, neighbours, sums, weighted, starts.astype(np.int32), length, np.uint64(seed), 1 / p, 1 / q)
    return found


def anonymous(walks: Walks) -> Walks:
    """(walks, length + 1): each node gets a number when it is met first: a, b, c, a, d are 0, 1, 2, 0, 3."""
    same = walks[:, :, None] == walks[:, None, :]
    first = same.argmax(2)  # the step at which each node was met first
    new = first == np.arange(walks.shape[1])
    number = np.cumsum(new, axis=1) - 1
    found: Walks = np.take_along_axis(number, first, axis=1).astype(np.int32)
    return found


def codes(patterns: Walks) -> npt.NDArray[np.int64]:
    """One whole number for each of `patterns`, equal for equal ones."""
    base = patterns.shape[1]
    found: npt.NDArray[np.int64] = patterns.astype(np.int64) @ (base ** np.arange(base, dtype=np.int64))
    return found


def visits(walks: Walks, each: int, size: int) -> sp.csr_array:
    """(starts, size) how often the walks of each start, `each` in a row, are at a node, steps of all lengths counted, the start too."""
    rows = np.repeat(np.arange(len(walks) // each), each * walks.shape[1])
    found = sp.csr_array((np.ones(walks.size, dtype=np.float32), (rows, walks.ravel())), shape=(len(walks) // each, size))
    found.sum_duplicates()
    return found


def _compiled(function: Callable[..., Any]) -> Any:
    try:  # not in parallel: numba's threads would raise the number of PyTorch's, and small steps then take a hundred times as long
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder to keep it in
        return numba.njit(nogil=True)(function)


@numba.njit(inline="always")
def _mixed(state: Any) -> Any:
    """The output of splitmix64 for a state."""
    state = (state ^ (state >> np.uint64(30))) * FIRST
    state = (state ^ (state >> np.uint64(27))) * SECOND
    return state ^ (state >> np.uint64(31))


@numba.njit(inline="always")
def _uniform(state: Any) -> Any:
    return (_mixed(state) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@numba.njit
def _chosen(pointers: Any, neighbours: Any, sums: Any, weighted: Any, node: Any, drawn: Any) -> Any:
    low, high = pointers[node], pointers[node + 1]
    if not weighted:
        return neighbours[low + min(np.int64(drawn * (high - low)), high - low - 1)]
    before = sums[low - 1] if low > 0 else 0.0
    place = low + np.searchsorted(sums[low:high], before + drawn * (sums[high - 1] - before), side="right")
    return neighbours[min(place, high - 1)]


@numba.njit
def _leads(pointers: Any, neighbours: Any, node: Any, other: Any) -> Any:
    low, high = pointers[node], pointers[node + 1]
    place = low + np.searchsorted(neighbours[low:high], other)
    return place < high and neighbours[place] == other


@_compiled
def _walk(pointers: Any, neighbours: Any, sums: Any, weighted: Any, starts: Any, length: Any, seed: Any, back: Any, away: Any) -> Any:
    found = np.empty((len(starts), length + 1), dtype=np.int32)
    plain = back == 1.0 and away == 1.0
    highest = max(back, 1.0, away)
    for number in range(len(starts)):
        state = _mixed(seed * GOLDEN + np.uint64(number) + np.uint64(1))
        node = starts[number]
        last = node
        found[number, 0] = node
        for step in range(1, length + 1):
            if pointers[node] == pointers[node + 1]:
                found[number, step] = node
                continue
            state += GOLDEN
            following = _chosen(pointers, neighbours, sums, weighted, node, _uniform(state))
            if not plain and step > 1:
                while True:  # drawn again as often as its likelihood asks
                    if following == last:
                        likely = back
                    elif _leads(pointers, neighbours, last, following):
                        likely = 1.0
                    else:
                        likely = away
                    state += GOLDEN
                    if _uniform(state) * highest <= likely:
                        break
                    state += GOLDEN
                    following = _chosen(pointers, neighbours, sums, weighted, node, _uniform(state))
            last, node = node, following
            found[number, step] = node
    return found


@_compiled
def _walk_plain(pointers: Any, neighbours: Any, starts: Any, length: Any, seed: Any) -> Any:
    """The walks of `_walk` without weights, p and q: some at a time, so that no step waits for the one before it."""
    found = np.empty((len(starts), length + 1), dtype=np.int32)
    states = np.empty(TOGETHER, dtype=np.uint64)
    nodes = np.empty(TOGETHER, dtype=np.int32)
    for first in range(0, len(starts), TOGETHER):
        count = min(TOGETHER, len(starts) - first)
        for one in range(count):
            states[one] = _mixed(seed * GOLDEN + np.uint64(first + one) + np.uint64(1))
            nodes[one] = found[first + one, 0] = starts[first + one]
        for step in range(1, length + 1):
            for one in range(count):
                low, high = pointers[nodes[one]], pointers[nodes[one] + 1]
                states[one] += GOLDEN
                if low < high:
                    nodes[one] = neighbours[low + min(np.int64(_uniform(states[one]) * (high - low)), high - low - 1)]
                found[first + one, step] = nodes[one]
    return found
