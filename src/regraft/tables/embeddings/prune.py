"""Magnitude pruning of a table that is there, in a sparse format."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import nn

from regraft.method import Paper
from regraft.tables.budget import Knob
from regraft.tables.embedding import CompressedEmbedding, Mode
from regraft.tables.memory import Memory


class PruneEmbedding(CompressedEmbedding):
    r"""The largest values of the whole table; all others are zero.

    kept : k, how many values; the budget decides (section 5 of the paper: from three words a row on, rows are found by where each begins,
        below by the number of each value's row).
    mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32. Takes :math:`\min(2k + n + 1, 3k)` words. Values may be trained on; places stay. Until `from_table`
    fills them, places are spread evenly.
    """

    name = "prune"
    paper = Paper("Learning both Weights and Connections for Efficient Neural Networks", "Han et al.", 2015, arxiv="1506.02626")
    summary = "only the largest values, in a sparse format"
    learns_from = True
    after_training = True
    columns: torch.Tensor
    places: torch.Tensor

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
        self.by_rows = 2 * self.kept + num_embeddings + 1 <= 3 * self.kept
        bound = math.sqrt(1 / num_embeddings)
        self.values = nn.Parameter(torch.empty(self.kept).uniform_(-bound, bound))
        self.register_buffer("columns", torch.empty(self.kept, dtype=torch.int32))
        self.register_buffer("places", torch.empty(num_embeddings + 1 if self.by_rows else self.kept, dtype=torch.int32))
        self._place(torch.arange(self.kept) * (num_embeddings * embedding_dim) // self.kept)

    @classmethod
    def words(cls, rows: int, dim: int, *, kept: int = 1, **_: Any) -> float:
        kept = min(kept, rows * dim)
        return min(2 * kept + rows + 1, 3 * kept)

    @classmethod
    def knob(cls, sizes: Sequence[int], dim: int) -> Knob:
        return Knob("kept", 1, max(sizes) * dim)

    def _place(self, flat: torch.Tensor) -> None:
        """Hold the values at `flat` places (k,), ascending, of the table read row by row."""
        rows = torch.div(flat, self.embedding_dim, rounding_mode="floor")
        self.columns.copy_(flat % self.embedding_dim)
        if self.by_rows:
            self.places.copy_(torch.searchsorted(rows, torch.arange(self.num_embeddings + 1)))
        else:
            self.places.copy_(rows)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        if self.by_rows:
            start, stop = self.places[ids].long(), self.places[ids + 1].long()
        else:
            wanted = ids.to(self.places.dtype)
            start, stop = (torch.searchsorted(self.places, wanted, right=right) for right in (False, True))
        counts = stop - start
        owner = torch.repeat_interleave(counts)  # which id a value belongs to
        first = torch.repeat_interleave(start - (counts.cumsum(0) - counts), counts)
        which = first + torch.arange(len(owner), device=ids.device)
        found = self.values.new_zeros(len(ids), self.embedding_dim)
        return found.index_put((owner, self.columns[which].long()), self.values[which])

    def fit(self, weight: torch.Tensor) -> None:
        self.hold(weight, weight.abs())

    @torch.no_grad()
    def hold(self, weight: torch.Tensor, by: torch.Tensor) -> None:
        """Values of `weight` (n, d) where `by` (n, d) is largest."""
        chosen = torch.topk(by.reshape(-1), self.kept, sorted=False).indices.sort().values
        self._place(chosen)
        self.values.copy_(weight.reshape(-1)[chosen])

    def memory(self) -> Memory:
        return Memory({"values": self.kept, "columns": self.kept, "places": self.places.numel()})
