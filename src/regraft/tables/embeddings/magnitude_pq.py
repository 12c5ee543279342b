"""Product quantization with more centroids for long rows."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Self

import torch
from annotated_types import Ge

from regraft.tables.budget import Knob
from regraft.tables.codes.product import ProductCodes, bits_for, bits_within
from regraft.tables.embedding import Mode
from regraft.tables.magnitude import BENCH, ByMagnitude, even_sizes
from regraft.tables.memory import parse_budget

FIRST, OTHERS = 9, 8


class MagnitudePqEmbedding(ByMagnitude):
    r"""Magnitude-PQ: rows in groups of equal total norm, the longest with codes of more bits, each group with centroids of its own.

    parts : p, the same in all groups; the budget decides.
    groups : how many. sizes : rows of each, from the table's norms; equal by default.
    bits : b of each group; by default 9 for the first and 8 for others (the paper's), all fewer where centroids would take over half of the
        budget (without one: where each would have under 39 rows).
    seed : of k-means. mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32. Takes :math:`n + \sum_g (2^{b_g} d + n_g p b_g/32)` words, the first n for the map of rows.
    """

    name = "magnitude-pq"
    paper = BENCH
    summary = "product quantization with more centroids for long rows"

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        parts: Annotated[int, Ge(1)] = 1,
        groups: Annotated[int, Ge(1)] = 2,
        sizes: tuple[int, ...] | None = None,
        bits: tuple[int, ...] | None = None,
        seed: int = 0,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        sizes = sizes or even_sizes(num_embeddings, groups)
        super().__init__(num_embeddings, embedding_dim, sizes=sizes, mode=mode, padding_idx=padding_idx)
        self.parts, self.groups, self.seed = parts, groups, seed
        self.bits = bits or group_bits(sizes)
        bound = math.sqrt(1 / num_embeddings)
        for size, own in zip(sizes, self.bits, strict=True):
            self.pieces.append(ProductCodes(size, embedding_dim, parts, own, bound))

    @classmethod
    def words(
        cls,
        rows: int,
        dim: int,
        *,
        parts: int = 1,
        groups: int = 2,
        sizes: Sequence[int] | None = None,
        bits: Sequence[int] | None = None,
        **_: Any,
    ) -> float:
        sizes = sizes or even_sizes(rows, groups)
        each = zip(sizes, bits or group_bits(sizes), strict=True)
        return rows + sum(ProductCodes.words(size, dim, parts, own) for size, own in each)

    @classmethod
    def knob(cls, sizes: Sequence[int], dim: int) -> Knob:
        return Knob("parts", 1, dim)

    @classmethod
    def from_budget(
        cls, num_embeddings: int, embedding_dim: int, budget: str | float, *, counts: torch.Tensor | None = None, **settings: Any
    ) -> Self:
        """As the base says; the budget decides `bits` too."""
        if settings.get("bits") is None and num_embeddings > 0:
            sizes = settings.get("sizes") or even_sizes(num_embeddings, settings.get("groups", 2))
            allowed = parse_budget(budget, num_embeddings * embedding_dim) - num_embeddings
            most = [OTHERS if place else FIRST for place in range(len(sizes))]
            settings = settings | {"bits": bits_within(allowed, sizes, embedding_dim, most)}
        return super().from_budget(num_embeddings, embedding_dim, budget, counts=counts, **settings)

    def fit(self, weight: torch.Tensor, seed: int | None = None) -> None:
        super().fit(weight, self.seed if seed is None else seed)


def group_bits(sizes: Sequence[int]) -> tuple[int, ...]:
    """Bits of each group by default."""
    return tuple(bits_for(size, OTHERS if place else FIRST) for place, size in enumerate(sizes))
