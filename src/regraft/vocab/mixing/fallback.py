"""Rows for tokens that a method has nothing to say about.

Enters: weights in which some rows are empty. Leaves: a whole graft, or rows drawn at random where a paper draws them.
"""

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from regraft.graft import Graft, Rows
from regraft.vocab.initializer import Context, Source, Target

Ids = npt.NDArray[np.int64]


def over_old(weights: sparse.csr_matrix, rows: Ids, old_ids: Ids, shape: tuple[int, int]) -> sparse.csr_matrix:
    """`weights` over anchors as weights over old tokens.

    Row i goes to row `rows[i]` of the result of `shape` (new tokens, old tokens), anchor j to column `old_ids[j]`; anchors that share an
    old token add up.
    """
    entries = weights.tocoo()
    out = sparse.csr_matrix((entries.data, (rows[entries.row], old_ids[entries.col])), shape=shape)
    out.sum_duplicates()
    return out


def normalized(weights: sparse.spmatrix) -> sparse.csr_matrix:
    """Rows divided by their sums, in float64; empty rows stay empty."""
    sums = np.asarray(weights.sum(axis=1)).ravel()
    return sparse.csr_matrix(sparse.diags(np.divide(1.0, sums, out=np.zeros(len(sums)), where=sums != 0)) @ weights)


def empty_rows(weights: sparse.csr_matrix) -> Ids:
    """Rows without any weight."""
    return np.flatnonzero(np.diff(weights.indptr) == 0)


def complete(weights: sparse.csr_matrix, target: Target) -> Graft:
    """`weights`, shape (new tokens, old tokens), with the constituent mean in empty rows (the mean of all rows where nothing spells it)."""
    missing = empty_rows(weights)
    if not len(missing):
        return Graft(weights)
    chosen = set(missing.tolist())
    constituents = Graft.uniform([pieces if row in chosen else [] for row, pieces in enumerate(target.pieces)], weights.shape[1])
    unspelled = [row for row in missing.tolist() if not target.pieces[row]]
    return Graft(sparse.csr_matrix(weights + constituents.weights)).with_mean_for(np.array(unspelled, dtype=np.int64))


def redraw(
    graft: Graft, rows: Ids, source: Source, context: Context, mean: torch.Tensor, std: torch.Tensor, bias: torch.Tensor | None = None
) -> Rows:
    """The rows of `graft` in `source`'s table, those of `rows` drawn from ``N(mean, std)`` per dimension instead.

    `mean` and `std` have shape (d,). `bias` are the output biases, shape (m,); without them the graft mixes all of them.
    """
    values = graft.apply(source.table)
    noise = torch.randn(len(rows), source.table.shape[1], generator=source.generator(context), dtype=torch.float64)
    values[torch.from_numpy(rows)] = (mean.double() + std.double() * noise).to(values.dtype)
    if bias is None and source.bias is not None:
        bias = graft.averaging().apply(source.bias)
    return Rows(values, bias, combined=np.setdiff1d(np.arange(len(values)), rows))
