"""Unified Embedding as one table for ids of all fields: each field's hashes are salted with its name."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch.nn.functional import embedding

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.tables.budget import Knob
from regraft.tables.embedding import CompressedEmbedding, Mode, uniform
from regraft.tables.memory import Memory
from regraft.tables.unified.salted import PRIME, Salted


class UnifiedEmbedding(CompressedEmbedding):
    r"""Row :math:`i` is :math:`E[h_{t,1}(x)], \dots, E[h_{t,c}(x)]` beside each other, x the value that id i is of field t (section 3).

    share : of the words of a plain table; the budget decides.
    fields : how many ids each field has, one after another; None is a single field. names : of the fields, the salts of their hashes; by
        default their places.
    chunks : c look-ups of width d / c each. seed : of all hashes. mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32. Takes M d / c words, M the rows of E. `regraft.tables.unified` is the same for raw values, strings,
    values without an end, and widths of each feature's own.
    """

    name = "unified"
    layout = "fused"
    paper = Paper("Unified Embedding: Battle-Tested Feature Representations for Web-Scale ML Systems", "Coleman et al.", 2023,
                  arxiv="2305.12102")  # fmt: skip
    summary = "all fields share rows, each by hashes of its own"

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        share: float = 1.0,
        fields: Sequence[int] | None = None,
        names: Sequence[str] | None = None,
        chunks: Annotated[int, Ge(1)] = 1,
        seed: int = 0,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, mode=mode, padding_idx=padding_idx)
        sizes = [num_embeddings] if fields is None else list(fields)
        salts = [str(place) for place in range(len(sizes))] if names is None else list(names)
        if sum(sizes) != num_embeddings or len(salts) != len(sizes) or len(set(salts)) < len(salts) or num_embeddings >= 2**31:
            raise ParameterError(
                f"unified: fields {sizes} named {salts}: a name each, all different, and {num_embeddings} ids in all, < 2^31"
            )
        self.share, self.fields, self.names, self.chunks, self.seed = share, fields, names, chunks, seed
        rows = int(self.words(num_embeddings, embedding_dim, share=share, chunks=chunks)) * chunks // embedding_dim
        self.weight = uniform(rows, embedding_dim // chunks, math.sqrt(1 / num_embeddings))
        self.hashes = [[Salted.of(name, chunk, rows, seed) for chunk in range(chunks)] for name in salts]
        self.register_buffer("starts", torch.tensor([0, *sizes[:-1]]).cumsum(0), persistent=False)

    starts: torch.Tensor

    @classmethod
    def words(cls, rows: int, dim: int, *, share: float = 1.0, chunks: int = 1, **_: Any) -> float:
        if not 0 <= share <= 1 or dim % chunks:
            raise ParameterError(f"unified: share={share}, chunks={chunks}: a share in (0, 1], and chunks that divide the {dim} dimensions")
        width = dim // chunks
        return max(1, math.floor(rows * dim * share / width + 1e-9)) * width

    @classmethod
    def knob(cls, sizes: Sequence[int], dim: int) -> Knob:
        return Knob("share", 0.0, 1.0, whole=False)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        places = torch.stack([self._places(ids, chunk) for chunk in range(self.chunks)], 1) if self.chunks > 1 else self._places(ids, 0)
        return embedding(places, self.weight).reshape(-1, self.embedding_dim)

    def _places(self, ids: torch.Tensor, chunk: int) -> torch.Tensor:
        hashes = [of_field[chunk] for of_field in self.hashes]
        if len(hashes) == 1:
            return hashes[0].small(ids)
        field = torch.searchsorted(self.starts, ids, right=True) - 1
        factor = torch.tensor([one.factors[0] for one in hashes], device=ids.device)[field]
        more = torch.tensor([one.more for one in hashes], device=ids.device)[field]
        return hashes[0].mixed((factor * (ids - self.starts[field]) + more) % PRIME) % len(self.weight)

    def memory(self) -> Memory:
        return Memory({"rows": self.weight.numel()})
