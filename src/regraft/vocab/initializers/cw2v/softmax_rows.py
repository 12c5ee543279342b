r"""Rows that are softmax mixes of a frozen table, with low-rank logits: :math:`\mathrm{softmax}(A_1 A_2 + O)\, W`.

Only the rows that are asked for are ever computed, a block at a time; gradients are written out, because an automatic graph would keep
several (rows, n) matrices of a step.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from regraft.graft import iterate_blocks

ELEMENTS = 3 << 20  # of a (rows, n) block: small enough for the allocator to hand the same memory out again
KEPT = 256 << 20  # bytes of weights that a forward pass leaves for its backward pass; past that they are computed again


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
        self._last: tuple[torch.Tensor, list[torch.Tensor]] | None = None
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
        keep = len(rows) * self.table.shape[0] * self.product.itemsize <= KEPT
        kept = []
        for block in self._blocks(rows):
            weights = self.weights(rows[block]).to(self.product)
            out[block] = (weights @ self.table).to(self.left.dtype)
            if keep:
                kept.append(weights)
        self._last = (rows, kept) if keep else None
        return out.add_(self.mean)

    def gradients(self, rows: torch.Tensor, mixes: torch.Tensor, slope: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        r"""Gradients for `left[rows]` (u, r) and `right` (r, n), given the `mixes` (u, d) and the loss's `slope` (u, d) in them.

        :math:`\partial z_j = p_j\,(\langle g, W_j\rangle - \langle g, e\rangle)` with e the mix.
        """
        left = torch.empty(len(rows), self.left.shape[1], dtype=self.left.dtype)
        right = torch.zeros_like(self.right)
        common = (slope * (mixes - self.mean)).sum(dim=1, keepdim=True)
        kept = self._last[1] if self._last is not None and self._last[0] is rows else None
        for i, block in enumerate(self._blocks(rows)):
            weights = self.weights(rows[block]) if kept is None else kept[i]
            in_logits = (slope[block].to(self.product) @ self.table.T).to(self.left.dtype)
            in_logits.sub_(common[block]).mul_(weights)
            left[block] = in_logits @ self.right.T
            right.addmm_(self.left[rows[block]].T, in_logits)
        self._last = None
        return left, right

    def _blocks(self, rows: torch.Tensor) -> Iterator[slice]:
        return iterate_blocks(len(rows), max(1, ELEMENTS // self.table.shape[0]))
