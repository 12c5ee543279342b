"""What methods share that train a whole table and serve its greatest values in a sparse format."""

import math
from abc import ABC
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import nn

from regraft.tables.budget import Knob
from regraft.tables.embedding import CompressedEmbedding, Mode, uniform
from regraft.tables.embeddings.prune import PruneEmbedding
from regraft.tables.memory import Memory


class Pruned(CompressedEmbedding, ABC):
    """Base of tables that train as `weight` (n, d) and leave `kept` values of it, as `prune` holds them."""

    layout = "fused"

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        kept: Annotated[int, Ge(1)] = 1,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, mode=mode, padding_idx=padding_idx)
        self.kept = min(kept, num_embeddings * embedding_dim)
        self.weight = uniform(num_embeddings, embedding_dim, math.sqrt(1 / num_embeddings))

    @classmethod
    def words(cls, rows: int, dim: int, *, kept: int = 1, **_: Any) -> float:
        return PruneEmbedding.words(rows, dim, kept=kept)

    @classmethod
    def knob(cls, sizes: Sequence[int], dim: int) -> Knob:
        return PruneEmbedding.knob(sizes, dim)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        return nn.functional.embedding(ids, self.weight)

    def served(self) -> torch.Tensor:
        """The whole table (n, d) that is pruned."""
        return self.weight.detach()

    @torch.no_grad()
    def export(self) -> CompressedEmbedding:
        """The `kept` greatest values, in a sparse format."""
        whole = self.served()
        return self.sparse(whole, whole.abs())

    def sparse(self, weight: torch.Tensor, by: torch.Tensor) -> PruneEmbedding:
        """Values of `weight` (n, d) where `by` (n, d) is greatest."""
        table = PruneEmbedding(self.num_embeddings, self.embedding_dim, kept=self.kept, mode=self.mode, padding_idx=self.padding_idx)
        table.to(weight.device).hold(weight, by)
        return table.train(self.training)

    def memory(self) -> Memory:
        """As it serves; in training, all that is held."""
        return Memory({"sparse values": self.held()}, self.training_parts())

    def held(self) -> float:
        """Words in the sparse format."""
        return self.words(self.num_embeddings, self.embedding_dim, kept=self.kept)

    def training_parts(self) -> dict[str, float]:
        return {"rows": self.weight.numel()}
