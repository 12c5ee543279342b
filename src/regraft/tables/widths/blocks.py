"""Dense blocks of rows, each field's of a width of its own, for the ids that have a row.

Enters: ids of a fused table. Leaves: rows (m, d), zeros beyond the width of the field; ids without a row have zeros, or share one.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from regraft.errors import ParameterError
from regraft.tables.codes.bitmap import Bitmap
from regraft.tables.embedding import in_blocks
from regraft.tables.widths.by_field import field_of, starts_of


class Blocks(nn.Module):
    """Fields of `sizes` ids, of which some have one of `blocks` (rows, width).

    shared : whether the last row of each block is that of all ids without one.

    Raises `ParameterError` for blocks that cannot be.
    """

    starts: torch.Tensor
    begins: torch.Tensor
    above: torch.Tensor
    widths: torch.Tensor
    last: torch.Tensor

    def __init__(self, sizes: Sequence[int], dim: int, blocks: Sequence[tuple[int, int]], *, shared: bool = False) -> None:
        super().__init__()
        possible = len(blocks) == len(sizes) and all(
            shared <= rows <= size + shared and 1 <= width <= dim for (rows, width), size in zip(blocks, sizes, strict=False)
        )
        if not possible:
            raise ParameterError(f"blocks {list(blocks)[:5]}: one of (rows, width) a field, with the ids of {list(sizes)[:5]}, {dim} wide")
        self.dim, self.shared, self.blocks, self.count = dim, shared, tuple(blocks), sum(sizes)
        held = sum(rows * width for rows, width in blocks)
        bound = math.sqrt(1 / self.count)
        self.values = nn.Parameter(torch.empty(held).uniform_(-bound, bound))
        self.having = Bitmap(self.count)
        own = torch.tensor([rows - shared for rows, _ in blocks])
        for name, value in {
            "starts": starts_of(sizes),
            "begins": starts_of([rows * width for rows, width in blocks]),
            "above": starts_of(own.tolist()),  # rows of fields before
            "widths": torch.tensor([width for _, width in blocks]),
            "last": own,
        }.items():
            self.register_buffer(name, value, persistent=False)

    @staticmethod
    def words(count: int, blocks: Sequence[tuple[int, int]]) -> float:
        """Of blocks, of the bits that say who has a row, and of a width a field."""
        return sum(rows * width for rows, width in blocks) + Bitmap.words(count) + len(blocks)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows (m, d) of ids (m,)."""
        return in_blocks(self._read, ids)

    def _read(self, ids: torch.Tensor) -> torch.Tensor:
        field = field_of(ids, self.starts)
        has, rank = self.having(ids)
        row = torch.where(has, rank - self.above[field], self.last[field] if self.shared else 0)
        width, columns = self.widths[field].unsqueeze(1), torch.arange(self.dim, device=ids.device)
        inside = columns < width if self.shared else (columns < width) & has.unsqueeze(1)
        places = torch.where(inside, (self.begins[field].unsqueeze(1) + row.unsqueeze(1) * width) + columns, 0)
        found = self.values.index_select(0, places.flatten()).view(len(ids), self.dim)
        return found * inside

    @torch.no_grad()
    def fill(self, stays: torch.Tensor, weight: torch.Tensor) -> None:
        """Rows of `weight` (n, d) where `stays` (n,), as wide as the blocks; a shared row starts as the mean of those that do not stay."""
        self.having.fill(stays)
        parts = []
        sizes = torch.diff(self.starts, append=torch.tensor([self.count], device=self.starts.device)).tolist()
        for rows, chosen, (_, width) in zip(torch.split(weight, sizes), torch.split(stays, sizes), self.blocks, strict=True):
            own = rows[chosen, :width]
            if self.shared:
                others = rows[~chosen, :width]
                own = torch.cat([own, others.mean(0, keepdim=True) if len(others) else rows[:1, :width] * 0])
            parts.append(own.flatten())
        self.values.copy_(torch.cat(parts))

    def memory(self) -> dict[str, float]:
        """Words by part."""
        return {"rows": self.values.numel(), "who has a row": Bitmap.words(self.count), "widths": len(self.blocks)}
