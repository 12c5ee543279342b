"""Compositional embeddings: a row is the product (or sum) of the row of its quotient and the row of its remainder."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch.nn.functional import embedding

from regraft.method import Paper
from regraft.tables.budget import Knob
from regraft.tables.embedding import CompressedEmbedding, Mode, in_blocks, uniform
from regraft.tables.memory import Memory

Start = Literal["bench", "match-variance", "dlrm"]


class CompoEmbedding(CompressedEmbedding):
    r"""Quotient and remainder (CompoEmb): :math:`e_i = Q_{\lfloor i/c\rfloor} \circ R_{i \bmod c}`, section 3.2 of the paper.

    remainders : c, rows of R; the budget decides, with the same c for all fields. combine : "product" of both rows, or "sum".
    start : "bench" draws both from U(-b, b), b = sqrt(1/n), so that products start near 1/n; "match-variance" gives products the
        variance of a plain table's rows (ours); "dlrm" draws from U(sqrt(1/n), 1), as that code does.
    mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32; each id has a pair of its own. Takes :math:`(\lceil n/c\rceil + c)\,d` words, least at
    :math:`c = \sqrt n`.
    """

    name = "compo"
    paper = Paper("Compositional Embeddings Using Complementary Partitions for Memory-Efficient Recommendation Systems", "Shi et al.", 2020,
                  arxiv="1909.02107")  # fmt: skip
    summary = "a row is the product of its quotient's row and its remainder's"

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        remainders: Annotated[int, Ge(1)] = 1,
        combine: Literal["product", "sum"] = "product",
        start: Start = "bench",
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, mode=mode, padding_idx=padding_idx)
        self.remainders, self.combine, self.start = remainders, combine, start
        quotients = -(-num_embeddings // remainders)
        self.quotient, self.remainder = (_started(rows, embedding_dim, num_embeddings, start) for rows in (quotients, remainders))

    @classmethod
    def words(cls, rows: int, dim: int, *, remainders: int = 1, **_: Any) -> float:
        return (-(-rows // remainders) + remainders) * dim

    @classmethod
    def knob(cls, sizes: Sequence[int], dim: int) -> Knob:
        """Up to the root of the rows, memory falls as c rises: the smallest c that fits, from the other side."""
        return Knob("remainders", 1, math.isqrt(max(sizes)), rising=False)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        return in_blocks(self._product, ids)

    def _product(self, ids: torch.Tensor) -> torch.Tensor:
        quotient = embedding(torch.div(ids, self.remainders, rounding_mode="floor"), self.quotient)
        remainder = embedding(ids % self.remainders, self.remainder)
        return quotient * remainder if self.combine == "product" else quotient + remainder

    def memory(self) -> Memory:
        return Memory({"quotients": self.quotient.numel(), "remainders": self.remainder.numel()})


def _started(rows: int, dim: int, total: int, start: Start) -> torch.nn.Parameter:
    bound = math.sqrt(1 / total)
    if start == "dlrm":
        return torch.nn.Parameter(torch.empty(rows, dim).uniform_(bound, 1))
    return uniform(rows, dim, bound if start == "bench" else math.sqrt(3 * bound / math.sqrt(3)))
