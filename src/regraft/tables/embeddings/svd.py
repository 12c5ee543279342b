"""Truncated singular value decomposition of a table that is there."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge

from regraft.tables.budget import Knob
from regraft.tables.embedding import CompressedEmbedding, Mode
from regraft.tables.factors import Factors
from regraft.tables.magnitude import BENCH
from regraft.tables.memory import Memory


class SvdEmbedding(CompressedEmbedding):
    r"""Truncated SVD: :math:`E \approx (E V_r) V_r^\top`, the best table of rank r in squared error.

    rank : r, at most min(n, d); the budget decides.
    mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32. Takes :math:`r (n + d)` words. Both factors may be trained on.
    """

    name = "svd"
    paper = BENCH
    summary = "two factors: the best table of a low rank"
    learns_from = True
    after_training = True

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        rank: Annotated[int, Ge(1)] = 1,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, mode=mode, padding_idx=padding_idx)
        self.rank = min(rank, num_embeddings, embedding_dim)
        self.factors = Factors(num_embeddings, embedding_dim, self.rank, math.sqrt(1 / num_embeddings))

    @classmethod
    def words(cls, rows: int, dim: int, *, rank: int = 1, **_: Any) -> float:
        return Factors.words(rows, dim, min(rank, rows, dim))

    @classmethod
    def knob(cls, sizes: Sequence[int], dim: int) -> Knob:
        return Knob("rank", 1, dim)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        return self.factors.rows(ids)

    def fit(self, weight: torch.Tensor) -> None:
        self.factors.fit(weight)

    def memory(self) -> Memory:
        return Memory(self.factors.memory())
