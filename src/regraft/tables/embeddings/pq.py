"""Product quantization of a table that is there."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Self

import torch
from annotated_types import Ge, Le

from regraft.method import Paper
from regraft.tables.budget import Knob
from regraft.tables.codes.product import ProductCodes, bits_for, bits_within
from regraft.tables.embedding import CompressedEmbedding, Mode
from regraft.tables.memory import Memory, parse_budget


class PqEmbedding(CompressedEmbedding):
    r"""Product quantization: a row is :math:`p` codes of :math:`b` bits, each the number of the nearest centroid of its part of the
    columns.

    parts : p; the budget decides. Columns that p does not divide make parts that differ by one column.
    bits : b; by default 8, fewer where centroids would take over half of the budget (without one: where each would have under 39 rows).
    seed : of k-means. mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32. Takes :math:`2^b d + n p b/32` words. Centroids may be trained on; codes stay. Until `from_table` fills
    them, codes are random: a hash for each part. Needs faiss where a table is compressed, not where one is loaded.
    """

    name = "pq"
    paper = Paper("Product Quantization for Nearest Neighbor Search", "Jegou et al.", 2011, url="https://doi.org/10.1109/TPAMI.2010.57")
    summary = "of each part of a row only which centroid is nearest"
    learns_from = True
    after_training = True

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        parts: Annotated[int, Ge(1)] = 1,
        bits: Annotated[int, Ge(1), Le(16)] | None = None,
        seed: int = 0,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, mode=mode, padding_idx=padding_idx)
        self.parts, self.seed = parts, seed
        self.bits = bits or bits_for(num_embeddings, 8)
        self.coded = ProductCodes(num_embeddings, embedding_dim, parts, self.bits, math.sqrt(1 / num_embeddings))

    @classmethod
    def words(cls, rows: int, dim: int, *, parts: int = 1, bits: int | None = None, **_: Any) -> float:
        return ProductCodes.words(rows, dim, parts, bits or bits_for(rows, 8))

    @classmethod
    def knob(cls, sizes: Sequence[int], dim: int) -> Knob:
        return Knob("parts", 1, dim)

    @classmethod
    def from_budget(
        cls, num_embeddings: int, embedding_dim: int, budget: str | float, *, counts: torch.Tensor | None = None, **settings: Any
    ) -> Self:
        """As the base says; the budget decides `bits` too."""
        if settings.get("bits") is None and num_embeddings > 0:
            allowed = parse_budget(budget, num_embeddings * embedding_dim)
            settings = settings | {"bits": bits_within(allowed, [num_embeddings], embedding_dim, [8])[0]}
        return super().from_budget(num_embeddings, embedding_dim, budget, counts=counts, **settings)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        return self.coded.rows(ids)

    def fit(self, weight: torch.Tensor) -> None:
        self.coded.fit(weight, self.seed)

    def memory(self) -> Memory:
        return Memory(self.coded.memory())
