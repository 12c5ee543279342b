r"""Rows that are softmax mixes of a frozen table, with low-rank logits: :math:`\mathrm{softmax}(A_1 A_2 + O)\, W`.

Only the rows that are asked for are ever computed, a block at a time; gradients are written out, because an automatic graph would keep
every (rows, n) matrix of a step.
"""

from dataclasses import dataclass

import torch

BLOCK = 512  # rows whose weights over the whole table are in memory at once


@dataclass(frozen=True)
class Offsets:
    """A fixed sparse addition to the logits: `values` at (`rows`, `columns`), and `excluded` columns that get weight 0 everywhere."""

    rows: torch.Tensor
    columns: torch.Tensor
    values: torch.Tensor
    excluded: torch.Tensor


class SoftmaxRows:
    """m rows over a table (n, d) with factors `left` (m, r) and `right` (r, n).

    `product` is the number format of the products with the table; the table is centered first, which changes neither rows nor gradients
    and keeps the digits that differ between old rows.
    """

    def __init__(
        self, table: torch.Tensor, left: torch.Tensor, right: torch.Tensor, offsets: Offsets, product: torch.dtype | None = None
    ) -> None:
        self.left, self.right, self.offsets = left, right, offsets
        self.mean = table.mean(dim=0)
        self.product = product or table.dtype
        self.table = (table - self.mean).to(self.product)
        order = torch.argsort(offsets.rows, stable=True)
        self._columns, self._values = offsets.columns[order], offsets.values[order].to(left.dtype)
        self._ends = torch.bincount(offsets.rows, minlength=len(left)).cumsum(0)

    def weights(self, rows: torch.Tensor) -> torch.Tensor:
        """Softmax weights (u, n) of `rows` (u,)."""
        logits = self.left[rows] @ self.right
        ends = self._ends[rows]
        counts = ends - torch.where(rows > 0, self._ends[rows - 1], 0)
        places = torch.repeat_interleave(ends - counts.cumsum(0), counts) + torch.arange(int(counts.sum()))
        own = torch.repeat_interleave(torch.arange(len(rows)), counts)
        logits.index_put_((own, self._columns[places]), self._values[places], accumulate=True)
        logits[:, self.offsets.excluded] = -torch.inf
        return torch.softmax(logits, dim=1)

    def rows(self, rows: torch.Tensor) -> torch.Tensor:
        """The mixes themselves, (u, d)."""
        out = torch.empty(len(rows), self.table.shape[1], dtype=self.left.dtype)
        for start in range(0, len(rows), BLOCK):
            mixed = self.weights(rows[start : start + BLOCK]).to(self.product) @ self.table
            out[start : start + BLOCK] = mixed.to(self.left.dtype) + self.mean
        return out

    def gradients(self, rows: torch.Tensor, slope: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        r"""Gradients for `left[rows]` (u, r) and `right` (r, n), given the loss's `slope` (u, d) in the mixes.

        :math:`\partial z = p \odot (g W^\top - \langle p, g W^\top\rangle)`.
        """
        left = torch.empty(len(rows), self.left.shape[1], dtype=self.left.dtype)
        right = torch.zeros_like(self.right)
        for start in range(0, len(rows), BLOCK):
            block = rows[start : start + BLOCK]
            weights = self.weights(block)
            in_weights = (slope[start : start + BLOCK].to(self.product) @ self.table.T).to(self.left.dtype)
            in_weights -= (weights * in_weights).sum(dim=1, keepdim=True)
            in_logits = in_weights.mul_(weights)
            left[start : start + BLOCK] = in_logits @ self.right.T
            right.addmm_(self.left[block].T, in_logits)
        return left, right
