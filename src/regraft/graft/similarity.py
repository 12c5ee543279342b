"""Which anchors a vector is like, and with what weights, in blocks.

Enters: query and anchor vectors. Leaves: one sparse row of weights per query, rows that sum to 1 in float64. Only one block of queries is
compared with all anchors at a time, so nothing of size queries x anchors is ever in memory.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from regraft.errors import ParameterError
from regraft.graft import iterate_blocks

Floats = npt.NDArray[np.float32]
BLOCK_BYTES = 16 << 20  # one block of similarities; where all are alike, sparsemax works on ten times as much
GROUP = 64  # anchors whose largest score stands for all of them in the first bound of sparsemax


def unit_rows(vectors: Floats) -> Floats:
    """Rows of length 1, shape (n, d); zero rows stay zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(np.divide(vectors, norms, out=np.zeros_like(vectors, dtype=np.float32), where=norms > 0))


def has_vector(vectors: Floats) -> npt.NDArray[np.bool_]:
    """Which rows are not all zero, shape (n,)."""
    return np.asarray(np.any(vectors != 0, axis=1))


def cosine_blocks(queries: Floats, anchors: Floats) -> Iterator[tuple[slice, torch.Tensor]]:
    """Blocks of the cosine matrix: (which queries, float32 scores of shape (block, anchors)). The next block overwrites the last."""
    left, right = torch.from_numpy(unit_rows(queries)), torch.from_numpy(unit_rows(anchors)).T
    size = max(1, BLOCK_BYTES // (4 * max(1, len(anchors))))
    space = torch.empty((min(size, len(queries)), len(anchors)))
    for block in iterate_blocks(len(queries), size):
        scores = space[: block.stop - block.start]
        torch.mm(left[block], right, out=scores)
        yield block, scores


def sparsemax_cosine(queries: Floats, anchors: Floats, most: int = 1024) -> sparse.csr_matrix:
    """``sparsemax(cos(query, anchor))`` over all anchors; shape (queries, anchors), float64, rows sum to 1.

    A query that would have more than `most` weights has them on its `most` nearest anchors alone, so that the result stays small where all
    vectors are alike.
    """
    parts = [_thinned(sparsemax(scores), scores, most) for _, scores in cosine_blocks(queries, anchors)]
    return sparse.csr_matrix(sparse.vstack(parts)) if parts else sparse.csr_matrix((0, len(anchors)))


def sparsemax(scores: torch.Tensor) -> sparse.csr_matrix:
    r"""Euclidean projection of each row of `scores`, shape (n, m), onto the simplex (Martins & Astudillo, 2016); exact.

    The weights are :math:`(z_i - \tau)_+` with :math:`\tau` such that they sum to 1. Instead of sorting each row, :math:`\tau` is bounded
    from below by the threshold of the rows' group maxima (more scores can only raise it), which leaves a handful of candidates; among
    those, scores at or below the current threshold are dropped until none is.
    """
    n, m = scores.shape
    if m == 0:
        raise ParameterError("sparsemax needs at least one anchor")
    groups = m // GROUP
    peaks = scores[:, : groups * GROUP].reshape(n, groups, GROUP).amax(2) if groups else scores[:, :0]
    peaks = torch.cat([peaks, scores[:, groups * GROUP :]], dim=1)
    rows, columns = _above(peaks, peaks.amax(1) - 1)
    bound = _threshold(rows, peaks[rows, columns].double().numpy(), n)
    # float32 rounding must not lose a candidate that the exact threshold would keep
    rows, columns = _above(scores, torch.from_numpy(bound - 1e-6 * np.maximum(1.0, np.abs(bound))).float())
    values = scores[rows, columns].double().numpy()
    weights = values - _threshold(rows, values, n)[rows]
    kept = weights > 0
    pointer = np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=n))])
    return sparse.csr_matrix((weights[kept], columns[kept], pointer), shape=(n, m))


def _thinned(weights: sparse.csr_matrix, scores: torch.Tensor, most: int) -> sparse.csr_matrix:
    """`weights` with crowded rows projected anew over their `most` largest scores."""
    crowded = np.diff(weights.indptr) > most
    if not crowded.any():
        return weights
    best = torch.topk(scores[torch.from_numpy(crowded)], most, dim=1)
    entries = sparsemax(best.values).tocoo()
    rows = np.flatnonzero(crowded)[entries.row]
    again = sparse.csr_matrix((entries.data, (rows, best.indices.numpy()[entries.row, entries.col])), shape=weights.shape)
    return sparse.csr_matrix(sparse.diags((~crowded).astype(np.float64)) @ weights + again)


def _above(scores: torch.Tensor, bound: torch.Tensor) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Row and column of each score above its row's bound, row by row."""
    rows, columns = torch.nonzero(scores > bound[:, None], as_tuple=True)
    return rows.numpy(), columns.numpy()


def _threshold(rows: npt.NDArray[np.int64], values: npt.NDArray[np.float64], n: int) -> npt.NDArray[np.float64]:
    """The sparsemax threshold of each row from its candidates, shape (n,)."""
    threshold = np.full(n, -np.inf)
    while True:
        count = np.bincount(rows, minlength=n)
        threshold = np.divide(np.bincount(rows, values, n) - 1, count, out=threshold, where=count > 0)
        active = values > threshold[rows]
        if active.all():
            return np.asarray(threshold)
        rows, values = rows[active], values[active]


def softmax_nearest(queries: Floats, anchors: Floats, k: int, temperature: float) -> sparse.csr_matrix:
    """Softmax of ``cos / temperature`` over the `k` nearest anchors of each query; shape (queries, anchors), float64, rows sum to 1.

    Raises `ParameterError` when there are fewer than `k` anchors.
    """
    if k > len(anchors):
        raise ParameterError(f"k={k} nearest, but only {len(anchors)} old tokens have a vector: choose k <= {len(anchors)}")
    columns = np.empty((len(queries), k), dtype=np.int64)
    weights = np.empty((len(queries), k))
    for block, scores in cosine_blocks(queries, anchors):
        nearest = torch.topk(scores, k, dim=1)
        columns[block] = nearest.indices.numpy()
        weights[block] = torch.softmax(nearest.values.double() / temperature, dim=1).numpy()
    weights /= weights.sum(axis=1, keepdims=True)
    return sparse.csr_matrix((weights.ravel(), columns.ravel(), np.arange(len(queries) + 1) * k), shape=(len(queries), len(anchors)))
