"""The hashing trick: ids share rows by the remainder of a division. What every other method must beat at equal memory."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import embedding

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.tables.budget import Knob
from regraft.tables.embedding import CompressedEmbedding, Mode, uniform
from regraft.tables.memory import Memory


class HashEmbedding(CompressedEmbedding):
    r"""Row :math:`i \bmod b` of :math:`b = \lceil s\,n\rceil` rows.

    share : s, the share of rows that are held, in (0, 1]; the budget decides.
    mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32. Takes :math:`b\,d` words.
    """

    name = "hash"
    paper = Paper("Feature Hashing for Large Scale Multitask Learning", "Weinberger et al.", 2009, arxiv="0902.2206")
    summary = "ids share rows by the remainder of a division"

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *, share: float = 1.0, mode: Mode | None = None, padding_idx: int | None = None
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, mode=mode, padding_idx=padding_idx)
        self.share, self.buckets = share, held(num_embeddings, share)
        self.weight = uniform(self.buckets, embedding_dim, math.sqrt(1 / num_embeddings))

    @classmethod
    def words(cls, rows: int, dim: int, *, share: float = 1.0, **_: Any) -> float:
        return held(rows, share) * dim

    @classmethod
    def knob(cls, sizes: Sequence[int], dim: int) -> Knob:
        return Knob("share", 0.0, 1.0, whole=False)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        return embedding(ids % self.buckets, self.weight)

    def memory(self) -> Memory:
        return Memory({"rows": self.weight.numel()})


def held(rows: int, share: float) -> int:
    """How many of `rows` are held at `share`. Raises `ParameterError` outside [0, 1]."""
    if not 0 <= share <= 1:
        raise ParameterError(f"hash: share={share}: give a share of the rows, in (0, 1]")
    return max(1, math.ceil(rows * share))
