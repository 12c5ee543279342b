"""Mixed dimensions: the more ids a field has, the narrower its rows, and a map to the full width."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import nn

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.tables.budget import Knob
from regraft.tables.embedding import CompressedEmbedding, Mode, uniform
from regraft.tables.memory import Memory
from regraft.tables.widths.by_field import by_field, fields_of, starts_of


class MdeEmbedding(CompressedEmbedding):
    r"""Field f of :math:`n_f` ids has rows of :math:`d_f = \max(1, \mathrm{round}(d\,(n_0/n_f)^\alpha))` and a map :math:`d_f \times d`.

    alpha : in [0, 1]; 0 gives every field all d; the budget decides. fields : how many ids each field has; None is one field of all.
    full : n_0, the most ids a field of width d may have at any alpha; by default the size of the smallest of several fields, and 1 for a
        table that is one field.
    round_dim : to the nearest power of two, as the paper does, which makes steps of budgets coarse.
    mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32. Takes :math:`\sum_f n_f d_f + d_f d` words; a field that this makes no smaller keeps width d and no map.
    """

    name = "mde"
    layout = "fused"
    paper = Paper("Mixed Dimension Embeddings with Application to Memory-Efficient Recommendation Systems", "Ginart et al.", 2021,
                  arxiv="1909.11810")  # fmt: skip
    summary = "the more ids a field has, the narrower its rows"

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        alpha: float = 0.0,
        fields: Sequence[int] | None = None,
        full: Annotated[int, Ge(1)] | None = None,
        round_dim: bool = True,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, mode=mode, padding_idx=padding_idx)
        sizes = fields_of(self.name, fields, num_embeddings)
        self.alpha, self.fields, self.full, self.round_dim = alpha, None if fields is None else sizes, full, round_dim
        self.widths = _widths(sizes, embedding_dim, alpha, full, round_dim)
        self.tables = nn.ParameterList(
            uniform(rows, width, math.sqrt(1 / num_embeddings)) for rows, width in zip(sizes, self.widths, strict=True)
        )
        narrow = [width for width in self.widths if width < embedding_dim]
        self.maps = nn.ParameterList(nn.init.xavier_uniform_(torch.empty(width, embedding_dim)) for width in narrow)
        self.register_buffer("starts", starts_of(sizes), persistent=False)

    starts: torch.Tensor

    @classmethod
    def words(
        cls,
        rows: int,
        dim: int,
        *,
        alpha: float = 0.0,
        fields: Sequence[int] | None = None,
        full: int | None = None,
        round_dim: bool = True,
        **_: Any,
    ) -> float:
        sizes = fields_of(cls.name, fields, rows)
        return sum(_words(size, width, dim) for size, width in zip(sizes, _widths(sizes, dim, alpha, full, round_dim), strict=True))

    @classmethod
    def knob(cls, sizes: Sequence[int], dim: int) -> Knob:
        return Knob("alpha", 0.0, 1.0, whole=False, rising=False)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        return by_field(ids, self.starts, self._wide, self.embedding_dim)

    def _wide(self, field: int, ids: torch.Tensor) -> torch.Tensor:
        found = nn.functional.embedding(ids, self.tables[field])
        if self.widths[field] == self.embedding_dim:
            return found
        wide: torch.Tensor = found @ self.maps[sum(width < self.embedding_dim for width in self.widths[:field])]
        return wide

    def memory(self) -> Memory:
        return Memory({"rows": sum(one.numel() for one in self.tables), "maps": sum(one.numel() for one in self.maps)})


def _widths(sizes: Sequence[int], dim: int, alpha: float, full: int | None, round_dim: bool) -> tuple[int, ...]:
    """Of each field."""
    if not 0 <= alpha <= 1:
        raise ParameterError(f"mde: alpha={alpha}: give an exponent from 0 to 1")
    least = full or (min(sizes) if len(sizes) > 1 else 1)
    found = []
    for rows in sizes:
        width = max(1, round(dim * (least / rows) ** alpha))
        width = min(dim, 2 ** round(math.log2(width)) if round_dim else width)
        found.append(width if _words(rows, width, dim) < rows * dim else dim)
    return tuple(found)


def _words(rows: int, width: int, dim: int) -> int:
    return rows * width + (width * dim if width < dim else 0)
