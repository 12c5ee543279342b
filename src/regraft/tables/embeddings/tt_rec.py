"""Tensor trains: a table as a product of three small cores, of which each id picks one slice."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import nn

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.tables.budget import Knob
from regraft.tables.embedding import CompressedEmbedding, Mode
from regraft.tables.memory import Memory

MOST_RANK = 1000
BLOCK = 65_536  # ids a block, so that what is made on the way stays in the cache
Three = tuple[int, int, int]


class TtRecEmbedding(CompressedEmbedding):
    r"""Row :math:`i = G_0[i_0]\,G_1[i_1]\,G_2[i_2]` with :math:`i = i_0 + n_0 (i_1 + n_1 i_2)` (TT-Rec, section 3).

    rank : r, the width between cores; the budget decides.
    mode, padding_idx : as `nn.EmbeddingBag`.

    Cores are tables :math:`(n_0, d_0 r)`, :math:`(n_1, r d_1 r)`, :math:`(n_2, r d_2)`, where :math:`n_0 n_1 n_2 \ge n` and
    :math:`d_0 d_1 d_2 \ge d`; what is more than d is cut off. They start from a normal law without its middle (:math:`\pm 2\sigma`), so
    that no product is near 0. Returns rows (m, d) of float32. Takes :math:`r (n_0 d_0 + n_1 d_1 r + n_2 d_2)` words.
    """

    name = "tt-rec"
    learns_from = True
    paper = Paper("TT-Rec: Tensor Train Compression for Deep Learning Recommendation Models", "Yin et al.", 2021, arxiv="2101.11714")
    summary = "a table as a product of three small cores"

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        rank: Annotated[int, Ge(1)] = 8,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, mode=mode, padding_idx=padding_idx)
        self.rank = rank
        self.n, self.d = row_factors(num_embeddings), width_factors(embedding_dim)
        sigma = (1 / math.sqrt(math.prod(self.n) / 3)) ** (1 / 3)
        shapes = ((self.n[0], self.d[0] * rank), (self.n[1], rank * self.d[1] * rank), (self.n[2], rank * self.d[2]))
        self.cores = nn.ParameterList(nn.Parameter(_without_middle(shape).mul_(sigma)) for shape in shapes)

    @classmethod
    def words(cls, rows: int, dim: int, *, rank: int = 8, **_: Any) -> float:
        n, d = row_factors(rows), width_factors(dim)
        return rank * (n[0] * d[0] + n[1] * d[1] * rank + n[2] * d[2])

    @classmethod
    def knob(cls, sizes: Sequence[int], dim: int) -> Knob:
        return Knob("rank", 1, MOST_RANK)

    @torch.no_grad()
    def fit(self, weight: torch.Tensor) -> None:
        """The cores nearest to `weight` (n, d) by two truncated SVDs (TT-SVD); padded with zeros where n or d has no such factors."""
        (n0, n1, n2), (d0, d1, d2), r = self.n, self.d, self.rank
        padded = weight.new_zeros(n0 * n1 * n2, d0 * d1 * d2)
        padded[: len(weight), : weight.shape[1]] = weight
        # i = i0 + n0 (i1 + n1 i2): of the row's digits i2 is the slowest
        digits = padded.view(n2, n1, n0, d0, d1, d2).permute(2, 3, 1, 4, 0, 5)  # (n0, d0, n1, d1, n2, d2)
        first, rest = _split(digits.reshape(n0 * d0, -1), r)
        second, third = _split(rest.reshape(r * n1 * d1, n2 * d2), r)
        self.cores[0].copy_(first.reshape(n0, d0 * r))
        self.cores[1].copy_(second.reshape(r, n1, d1, r).transpose(0, 1).reshape(n1, r * d1 * r))
        self.cores[2].copy_(third.reshape(r, n2, d2).transpose(0, 1).reshape(n2, r * d2))

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        (n0, n1, _), (d0, d1, d2), r = self.n, self.d, self.rank
        pair, i2 = ids % (n0 * n1), torch.div(ids, n0 * n1, rounding_mode="floor")
        if ids.numel() >= n0 * n1 // 2:  # the products of all pairs (i0, i1) are fewer than those of the ids
            pairs = (self.cores[0].view(n0 * d0, r) @ self.cores[1].view(n1, r, d1 * r)).view(n1 * n0, d0 * d1 * r)
        else:
            met, pair = torch.unique(pair, return_inverse=True)
            left = self.cores[0].index_select(0, met % n0).view(-1, d0, r)
            right = self.cores[1].index_select(0, torch.div(met, n0, rounding_mode="floor")).view(-1, r, d1 * r)
            pairs = (left @ right).view(-1, d0 * d1 * r)
        last = self.cores[2].view(-1, r, d2)
        parts = [
            (pairs.index_select(0, p).view(-1, d0 * d1, r) @ last.index_select(0, q)).view(-1, d0 * d1 * d2)
            for p, q in zip(torch.split(pair, BLOCK), torch.split(i2, BLOCK), strict=True)
        ]
        whole = torch.cat(parts) if len(parts) > 1 else parts[0]
        return whole[:, : self.embedding_dim]

    def memory(self) -> Memory:
        return Memory({"cores": sum(core.numel() for core in self.cores)})


def row_factors(rows: int) -> Three:
    """n0, n1, n2 of about the same size whose product is at least `rows`."""
    n2 = _up(rows ** (1 / 3))
    n1 = _up(math.sqrt(rows / n2))
    return -(-rows // (n2 * n1)), n1, n2


def width_factors(dim: int) -> Three:
    """d0 <= d1 <= d2 with a product of at least `dim`: the least sum, then the least product; 16 is 2 * 2 * 4 and 768 is 8 * 8 * 12.

    A power of two from 8 on starts from 2 * 2 * 2 and doubles the last, the middle, the first, and so on.
    """
    if dim >= 8 and dim & (dim - 1) == 0:
        doublings = dim.bit_length() - 1
        return 2 ** (doublings // 3), 2 ** ((doublings + 1) // 3), 2 ** ((doublings + 2) // 3)
    if dim < 1:
        raise ParameterError(f"a width of {dim}: it must be at least 1")
    most = _up(dim ** (1 / 3))
    triples = ((a, b, -(-dim // (a * b))) for a in range(1, most + 1) for b in range(a, _up(math.sqrt(dim / a)) + 1))
    a, b, c = sorted(min(triples, key=lambda t: (sum(t), math.prod(t))))
    return a, b, c


def _up(value: float) -> int:
    return max(1, math.ceil(value - 1e-9))


def _without_middle(shape: tuple[int, int]) -> torch.Tensor:
    """Samples of a standard normal law beyond 2 on either side, by its inverse; drawn in blocks, for want of memory beside the core."""
    tail = 0.5 * math.erfc(2 / math.sqrt(2))
    core = torch.empty(shape)
    for part in torch.split(core.view(-1), BLOCK):
        beyond = torch.special.ndtri(torch.rand(len(part), dtype=torch.float64).clamp(1e-12, 1) * tail)  # below -2
        part.copy_(torch.where(torch.rand(len(part)) < 0.5, beyond, -beyond))
    return core


def _split(matrix: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`matrix` (a, b) as (a, rank) @ (rank, b) with least squared error, by the spectrum of its smaller Gram matrix, in float64."""
    wide = matrix.shape[0] <= matrix.shape[1]
    small = matrix.double() if wide else matrix.double().T
    basis = torch.linalg.eigh(small @ small.T).eigenvectors.flip(1)[:, :rank]
    basis = nn.functional.pad(basis, (0, rank - basis.shape[1]))  # a rank above the matrix's own
    other = basis.T @ small
    left, right = (basis, other) if wide else (other.T, basis.T)
    return left.to(matrix.dtype), right.to(matrix.dtype)
