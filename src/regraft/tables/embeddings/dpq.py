"""Differentiable product quantization: product codes that are learned with the model."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

import torch
from annotated_types import Ge
from torch import nn

from regraft.method import Paper
from regraft.tables.budget import Knob
from regraft.tables.codes.learned import Codebooks, bits_of, looked_up, parts_of
from regraft.tables.codes.packing import pack, packed_bytes, packed_words, unpack_rows
from regraft.tables.embedding import CompressedEmbedding, Mode, uniform
from regraft.tables.memory import WORD, Memory


class DpqEmbedding(CompressedEmbedding):
    r"""Part j of a row is one of K centroids, chosen by a row q, which is there in training only (DPQ, section 2).

    parts : p; the largest divisor of d at most p is taken; the budget decides, 8 is the bench's. centroids : K. form : "vq" takes the
        nearest centroid and passes gradients straight on to q; "softmax" scores by products with keys, and gives rows of values of their
        own by a one-hot choice whose gradient is the softmax's. weight : of the loss that moves the centroids of "vq" to their q.
    coded : whether it is as it serves. mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32. Serving takes K d words and p codes of log2 K bits a row; training n d more.
    """

    name = "dpq"
    paper = Paper("Differentiable Product Quantization for End-to-End Embedding Compression", "Chen et al.", 2020, arxiv="1908.09756")
    summary = "product codes that are learned with the model"

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        parts: int = 8,
        centroids: Annotated[int, Ge(2)] = 32,
        form: Literal["vq", "softmax"] = "vq",
        weight: float = 1.0,
        coded: bool = False,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, mode=mode, padding_idx=padding_idx)
        self.parts, self.centroids, self.form = parts_of(embedding_dim, parts), centroids, form
        self.weight, self.coded = weight, coded
        bound = math.sqrt(1 / num_embeddings)
        shape = (self.parts, centroids, embedding_dim // self.parts)
        if coded:
            self.values = nn.Parameter(torch.zeros(shape))
            held = packed_bytes(num_embeddings * self.parts, bits_of(centroids))
            self.register_buffer("codes", torch.zeros(held, dtype=torch.uint8))
        else:
            self.books = Codebooks(embedding_dim, self.parts, centroids, bound, product=form == "softmax")
            self.query = uniform(num_embeddings, embedding_dim, bound)
            if form == "softmax":
                self.values = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self._loss: torch.Tensor | float = 0.0

    codes: torch.Tensor

    @classmethod
    def words(cls, rows: int, dim: int, *, parts: int = 8, centroids: int = 32, **_: Any) -> float:
        return centroids * dim + packed_words(rows * parts_of(dim, parts), bits_of(centroids))

    @classmethod
    def knob(cls, sizes: Sequence[int], dim: int) -> Knob:
        return Knob("parts", 1, dim)

    @property
    def _centroids(self) -> torch.Tensor:
        return self.values if self.coded or self.form == "softmax" else self.books.keys

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        if self.coded:
            return looked_up(self.values, unpack_rows(self.codes, ids, self.parts, bits_of(self.centroids)))
        query = nn.functional.embedding(ids, self.query)
        if self.form == "softmax" and self.training:
            soft = self.books.scores(query).softmax(2)
            hard = nn.functional.one_hot(soft.argmax(2), self.centroids).to(soft.dtype)
            return torch.einsum("mpk,pkw->mpw", hard - soft.detach() + soft, self.values).flatten(1)
        found = looked_up(self._centroids, self._nearest(query))
        if not self.training:
            return found
        self._loss = self.weight * (found - query.detach()).square().sum() / max(1, found.numel())
        return query + (found - query).detach()

    @torch.no_grad()
    def _nearest(self, query: torch.Tensor) -> torch.Tensor:
        return self.books.scores(query).argmax(2)

    @torch.no_grad()
    def export(self) -> Self:
        """The same table with codes and centroids alone; every row is coded, with running statistics."""
        if self.coded:
            return self
        table = type(self)(**self.config() | {"coded": True})
        was = self.training
        self.eval()
        table.values.copy_(self._centroids)
        codes = torch.cat([self._nearest(one) for one in torch.split(self.query, 65536)])
        table.codes.copy_(pack(codes, bits_of(self.centroids)))
        self.train(was)
        return table.train(was)

    def extra_loss(self) -> torch.Tensor | float:
        return self._loss

    def memory(self) -> Memory:
        """As it serves, also before `export`; in training the rows q, and what chooses."""
        centroids = self._centroids.numel()
        codes = packed_words(self.num_embeddings * self.parts, bits_of(self.centroids))
        serving = {"centroids": centroids, "codes": codes}
        if self.coded:
            return Memory(serving | {"codes": self.codes.numel() / WORD})
        held = sum(parameter.numel() for parameter in self.parameters()) - self.query.numel()
        return Memory(serving, {"rows": self.query.numel(), "centroids": held, "statistics": 2 * self.parts * self.centroids})
