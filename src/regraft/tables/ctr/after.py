"""A plain table that is trained first and then gives way to one that is made of it: how methods of trained tables take part."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import embedding

from regraft.tables.embedding import CompressedEmbedding, LargerTable, uniform
from regraft.tables.fields import FieldTables
from regraft.tables.memory import Memory
from regraft.tables.stages import WHOLE, Quality, Stage

TUNED = (Stage("pretrain", 0.7), Stage("fine-tune", 0.3))


class AfterTraining(CompressedEmbedding):
    """A plain table of `num_embeddings` x `embedding_dim`, which `advance` makes one of `method` within `budget`.

    What then has parameters is trained on. Raises `ParameterError` for a budget below the method's floor.
    """

    name = "after-training"

    def __init__(
        self, num_embeddings: int, embedding_dim: int, method: type[CompressedEmbedding], budget: str | float, settings: Mapping[str, Any]
    ) -> None:
        super().__init__(num_embeddings, embedding_dim)
        self.method, self.budget, self.settings = method, budget, dict(settings)
        planned = method.from_budget(num_embeddings, embedding_dim, budget, **self.settings)
        self.stages: tuple[Stage, ...] = TUNED if list(planned.parameters()) else WHOLE  # type: ignore[misc]  # of this very table
        self.weight = uniform(num_embeddings, embedding_dim, (1 / num_embeddings) ** 0.5)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        return embedding(ids, self.weight)

    @classmethod
    def words(cls, rows: int, dim: int, **_: Any) -> float:
        return rows * dim

    def memory(self) -> Memory:
        return Memory({"plain rows": self.weight.numel()})

    def advance(self, stage: str, quality: Quality) -> CompressedEmbedding:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LargerTable)  # whoever compares sees the size
            return self.method.from_table(self.weight.detach(), self.budget, **self.settings)


def tables_of(
    method: type[CompressedEmbedding] | None,
    sizes: tuple[int, ...],
    dim: int,
    budget: float,
    *,
    counts: list[torch.Tensor],
    **settings: Any,
) -> FieldTables:
    """Tables for fields by `method` as it is best used: learned with the model, or made of one trained table of all fields."""
    if method is None or not method.after_training:
        given = counts if method is not None and method.counts_rows else None
        return FieldTables(sizes, dim, method, budget, counts=given, **settings)
    tables = FieldTables(sizes, dim, None, budget, layout="fused")
    tables.tables[0] = AfterTraining(sum(sizes), dim, method, budget, settings)
    return tables
