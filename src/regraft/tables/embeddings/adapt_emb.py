"""Frequent ids have rows of their own, the rest share a few."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import embedding

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.tables.budget import Knob
from regraft.tables.embedding import CompressedEmbedding, Mode, uniform
from regraft.tables.frequency import frequent_ids
from regraft.tables.memory import Memory


class AdaptEmbEmbedding(CompressedEmbedding):
    r"""Private rows for ids seen at least t times; the k-th of the others takes shared row :math:`k \bmod (b - n_f)`.

    counts : (n,), how often each id occurs in training; ids that do not, share. share : of the rows that are held, b = s n; the budget
        decides, and b is never less than top n + 1. top : how many ids have private rows at most, as a share of all; t is the least count
        that so many reach. exact : so many exactly. seed : of the draw among those with the count at the edge.
    mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32. Takes b d + n words: the map of ids counts, which the bench leaves out.
    """

    name = "adapt-emb"
    counts_rows = True
    paper = Paper("Experimental Analysis of Large-scale Learnable Vector Storage Compression", "Zhang et al.", 2024, arxiv="2311.15578")
    summary = "frequent ids have rows of their own, the rest share a few"

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        counts: torch.Tensor,
        *,
        share: float = 1.0,
        top: float = 0.1,
        exact: bool = False,
        seed: int = 0,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, mode=mode, padding_idx=padding_idx)
        if counts.shape != (num_embeddings,):
            raise ParameterError(f"adapt-emb: counts of shape {tuple(counts.shape)}: give one for each of the {num_embeddings} ids")
        self.share, self.top, self.exact, self.seed = share, top, exact, seed
        held = _held(num_embeddings, share, top)
        frequent = frequent_ids(counts, math.floor(num_embeddings * top), seed if exact else None)
        self.weight = uniform(held, embedding_dim, math.sqrt(1 / num_embeddings))
        rank = torch.cumsum(frequent, 0) - 1
        others = torch.cumsum(~frequent, 0) - 1
        private = int(frequent.sum())
        places = torch.where(frequent, rank, private + others % (held - private))
        self.register_buffer("places", places.to(torch.int32))

    places: torch.Tensor

    @classmethod
    def words(cls, rows: int, dim: int, *, share: float = 1.0, top: float = 0.1, **_: Any) -> float:
        return _held(rows, share, top) * dim + rows

    @classmethod
    def knob(cls, sizes: Sequence[int], dim: int) -> Knob:
        return Knob("share", 0.0, 1.0, whole=False)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        return embedding(self.places[ids], self.weight)

    def memory(self) -> Memory:
        return Memory({"rows": self.weight.numel(), "map": self.places.numel()})


def _held(rows: int, share: float, top: float) -> int:
    if not 0 <= share <= 1 or not 0 <= top < 1:
        raise ParameterError(f"adapt-emb: share={share}, top={top}: give shares of the ids, top less than 1")
    return max(math.floor(rows * share), math.floor(rows * top) + 1)
