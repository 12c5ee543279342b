"""Choosing anchors among the rows of a training set (Moschella et al. 2023, section 2.2 of the paper's code and its follow-ups).

Enters: how many, and what the sampler needs of rows, labels or counts. Leaves: positions, in the order in which they were chosen. Rows that
are copies of earlier ones are never chosen.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from regraft.align.aligner import unit_rows
from regraft.errors import RowsError

Sampler = Literal["uniform", "stratified", "farthest", "k-means", "frequent"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
Places = npt.NDArray[np.int64]
NEEDS = {"stratified": "labels", "farthest": "rows", "k-means": "rows", "frequent": "counts"}


def draw_anchors(
    k: int,
    *,
    sampler: Sampler = "uniform",
    rows: npt.NDArray[Any] | None = None,
    labels: Sequence[Any] | npt.NDArray[Any] | None = None,
    counts: npt.NDArray[Any] | None = None,
    among: Sequence[int] | npt.NDArray[Any] | None = None,
    size: int | None = None,
    seed: int = 0,
) -> Places:
    """Positions of `k` anchors, shape (k,).

    Parameters
    ----------
    sampler : "uniform"; "stratified" (shuffled, then round-robin over classes: as many of each to within one); "farthest" (each the row
        that is farthest from all before it, on unit vectors, the first by chance); "k-means" (the row nearest to each centre, of its own);
        "frequent" (largest count, ties by position).
    rows : (n, d), for "farthest" and "k-means"; for every sampler, rows that equal an earlier one are left out.
    labels : n classes. `counts` : (n,) how often each occurs.
    among : positions that may be chosen, such as the training side; default all.
    size : n, where none of the others says it.

    Raises `ParameterError`: fewer than one or more than the rows that differ, or something that the sampler needs is not given.
    """
    given = {"rows": rows, "labels": labels, "counts": counts}
    wanted = NEEDS.get(sampler)
    if sampler not in SAMPLERS:
        raise RowsError(f"anchors: no sampler '{sampler}': choose one of {', '.join(SAMPLERS)}")
    if wanted and given[wanted] is None:
        raise RowsError(f"anchors: the sampler '{sampler}' needs {wanted}: give them, or choose uniform")
    sizes = {name: len(value) for name, value in given.items() if value is not None} | ({} if size is None else {"size": size})
    if len(set(sizes.values())) != 1:
        raise RowsError(f"anchors: {', '.join(f'{n} {name}' for name, n in sizes.items()) or 'nothing'} given: they must be as many")
    pool = np.unique(np.asarray(np.arange(next(iter(sizes.values()))) if among is None else among, dtype=np.int64))
    if rows is not None:
        pool = pool[np.sort(np.unique(rows[pool], axis=0, return_index=True)[1])]
    if not 1 <= k <= len(pool):
        raise RowsError(f"anchors: {k} asked for, and there are {len(pool)} different rows to choose from: ask for 1 to {len(pool)}")
    rng = np.random.default_rng(seed)
    if sampler == "uniform":
        return np.asarray(rng.permutation(pool)[:k])
    if sampler == "stratified":
        return _stratified(np.asarray(labels)[pool], pool, k, rng)
    if sampler == "frequent":
        return pool[np.argsort(-np.asarray(counts, dtype=np.float64)[pool], kind="stable")[:k]]
    assert rows is not None
    unit = np.asarray(unit_rows(np.asarray(rows[pool], dtype=np.float64)), dtype=np.float64)
    return pool[_farthest(unit, k, rng) if sampler == "farthest" else _k_means(unit, k, seed)]


def _stratified(labels: npt.NDArray[Any], pool: Places, k: int, rng: np.random.Generator) -> Places:
    shuffled = rng.permutation(len(pool))
    classes = np.unique(labels, return_inverse=True)[1][shuffled]
    by_class = np.argsort(classes, kind="stable")
    starts = np.searchsorted(classes[by_class], np.arange(classes.max() + 1))
    turn = np.empty(len(pool), dtype=np.int64)  # the how-manyth of its class each one is
    turn[by_class] = np.arange(len(pool)) - starts[classes[by_class]]
    return pool[shuffled[np.lexsort((classes, turn))[:k]]]


def _farthest(unit: npt.NDArray[np.float64], k: int, rng: np.random.Generator) -> Places:
    """One product of n x d for each anchor: nothing of size n x n."""
    chosen = np.empty(k, dtype=np.int64)
    chosen[0] = rng.integers(len(unit))
    nearest = unit @ unit[chosen[0]]
    for place in range(1, k):
        nearest[chosen[place - 1]] = np.inf
        chosen[place] = int(np.argmin(nearest))  # the first of equals
        np.maximum(nearest, unit @ unit[chosen[place]], out=nearest)
    return chosen


def _k_means(unit: npt.NDArray[np.float64], k: int, seed: int) -> Places:
    from sklearn.cluster import KMeans

    found = KMeans(k, n_init=1, random_state=seed).fit(unit)
    distance = ((unit - found.cluster_centers_[found.labels_]) ** 2).sum(1)
    order = np.lexsort((np.arange(len(unit)), distance, found.labels_))
    first = np.unique(found.labels_[order], return_index=True)[1]
    chosen = order[first]
    if len(chosen) < k:  # fewer clusters than asked for: the rest by distance from what is chosen
        rest = np.setdiff1d(np.arange(len(unit)), chosen)
        chosen = np.concatenate([chosen, rest[np.argsort((unit[rest] @ unit[chosen].T).max(1), kind="stable")[: k - len(chosen)]]])
    return np.asarray(chosen, dtype=np.int64)
