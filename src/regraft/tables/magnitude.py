"""Rows in groups by their norm, each group held in a way of its own: long rows, which are few, get more.

Section 8 of the paper: rows sorted by norm, the longest first, cut into groups of equal total norm.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.method.settings import parameters
from regraft.tables.embedding import CompressedEmbedding, Mode
from regraft.tables.memory import Memory

BENCH = Paper("Experimental Analysis of Large-scale Learnable Vector Storage Compression", "Zhang et al.", 2024, arxiv="2311.15578")


class Piece(Protocol):
    """How one group is held."""

    def rows(self, ids: torch.Tensor) -> torch.Tensor: ...
    def fit(self, weight: torch.Tensor, seed: int = 0) -> None: ...
    def memory(self) -> Mapping[str, float]: ...


class ByMagnitude(CompressedEmbedding):
    """Base of methods that treat long rows better. A map of rows, n words, says where in its group a row lies.

    sizes : rows of each group, longest first.
    """

    learns_from = True
    after_training = True
    slots: torch.Tensor

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, sizes: Sequence[int], mode: Mode | None = None, padding_idx: int | None = None
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, mode=mode, padding_idx=padding_idx)
        if sum(sizes) != num_embeddings or min(sizes, default=0) < 1:
            raise ParameterError(
                f"{self.name}: groups of {list(sizes)} rows for {num_embeddings}: they must add up to that, each 1 or more"
            )
        self.sizes = tuple(sizes)
        self.pieces = nn.ModuleList()
        self.register_buffer("slots", torch.arange(num_embeddings, dtype=torch.int32))

    @classmethod
    def settings_of(cls, weight: torch.Tensor, budget: str | float, settings: Mapping[str, Any]) -> dict[str, Any]:
        """`sizes` from the norms of `weight`."""
        groups = settings.get("groups", parameters(cls)["groups"])
        return {"sizes": equal_norm_sizes(weight.float().norm(dim=1), groups), **settings}

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        slots, start = self.slots[ids].long(), 0
        places, found = [], []
        for piece, size in zip(self.pieces, self.sizes, strict=True):
            here = torch.nonzero((slots >= start) & (slots < start + size)).squeeze(1)
            places.append(here)
            found.append(piece.rows(slots[here] - start))  # type: ignore[operator]  # a `Piece`
            start += size
        rows = torch.cat(found)
        return torch.empty_like(rows).index_copy(0, torch.cat(places), rows)

    @torch.no_grad()
    def fit(self, weight: torch.Tensor, seed: int = 0) -> None:
        order = torch.argsort(weight.float().norm(dim=1), descending=True, stable=True)
        self.slots[order] = torch.arange(len(order), dtype=torch.int32)
        for piece, rows in zip(self.pieces, torch.split(order, list(self.sizes)), strict=True):
            piece.fit(weight[rows], seed)  # type: ignore[operator]

    def memory(self) -> Memory:
        parts: dict[str, float] = {"map of rows": self.slots.numel()}
        for piece in self.pieces:
            for name, words in piece.memory().items():  # type: ignore[operator]
                parts[name] = parts.get(name, 0) + words
        return Memory(parts)


def even_sizes(rows: int, groups: int) -> tuple[int, ...]:
    """Rows in groups of one size, where nothing is known of their norms; fewer groups than asked where there are fewer rows."""
    groups = min(groups, rows)
    return tuple(rows // groups + (group < rows % groups) for group in range(groups))


def equal_norm_sizes(norms: torch.Tensor, groups: int) -> tuple[int, ...]:
    """Sizes of groups of equal total norm, of rows sorted by it, the longest first; each has a row."""
    groups = min(groups, len(norms))
    if not float(norms.sum()):
        return even_sizes(len(norms), groups)
    shares = norms.double().sort(descending=True).values.cumsum(0) / norms.double().sum()
    ends = [int(torch.searchsorted(shares, (group + 1) / groups)) + 1 for group in range(groups - 1)]
    for place in range(groups - 1):  # a row a group, also where one row has most of the norm
        least = ends[place - 1] + 1 if place else 1
        ends[place] = min(max(ends[place], least), len(norms) - (groups - 1 - place))
    return tuple(b - a for a, b in zip([0, *ends], [*ends, len(norms)], strict=True))
