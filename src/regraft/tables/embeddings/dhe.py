"""Deep hash embeddings: a row is what a small network makes of many hashes of its id. No table is left."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge
from torch import nn

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.tables.budget import Knob
from regraft.tables.embedding import CompressedEmbedding, Mode
from regraft.tables.memory import Memory

MOST_WIDTH = 8192


class DheEmbedding(CompressedEmbedding):
    r"""A network of :math:`x_j = 2 h_j / (m - 1) - 1`, where :math:`h_j(i) = ((a_j i + b_j) \bmod p_j) \bmod m` (DHE, sections 3 and 4).

    width : w of the hidden layers; the budget decides. hashes : k; small tables need 32 to 128. buckets : m. layers : hidden ones, each
        Linear, BatchNorm and its activation. codes : "uniform", or "gaussian" by Box-Muller on neighbours (k is then even).
    activation : "mish" (the paper's) or "relu". seed : of the hashes; fields that share one network need another one each, or offset ids.
    mode, padding_idx : as `nn.EmbeddingBag`.

    Returns rows (m, d) of float32. Takes :math:`(k+1) w + 4 w (w+1) + 10 w + (w+1) d` words with 5 layers, whatever n is: 10 w for scale
    and shift of each BatchNorm, into which its statistics go as it serves. Raises `ParameterError` for an odd k with Gaussian codes.
    """

    name = "dhe"
    paper = Paper("Learning to Embed Categorical Features without Embedding Tables for Recommendation", "Kang et al.", 2021,
                  arxiv="2010.10784")  # fmt: skip
    summary = "a small network makes a row of many hashes of its id"

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        width: Annotated[int, Ge(1)] = 64,
        hashes: Annotated[int, Ge(1)] = 1024,
        buckets: Annotated[int, Ge(2)] = 10**6,
        layers: Annotated[int, Ge(1)] = 5,
        codes: Literal["uniform", "gaussian"] = "uniform",
        activation: Literal["mish", "relu"] = "mish",
        seed: int = 0,
        mode: Mode | None = None,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, mode=mode, padding_idx=padding_idx)
        if codes == "gaussian" and hashes % 2:
            raise ParameterError(f"dhe: hashes={hashes}: Gaussian codes are made of pairs, give an even number")
        self.width, self.hashes, self.buckets, self.layers = width, hashes, buckets, layers
        self.codes, self.activation, self.seed = codes, activation, seed
        self.hidden = nn.ModuleList(nn.Linear(hashes if not place else width, width) for place in range(layers))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(layers))
        self.last = nn.Linear(width, embedding_dim)
        drawn = torch.Generator().manual_seed(seed)
        primes = _primes(buckets, buckets + max(buckets // 100, 100))  # not far above m: the remainder by m stays even
        self.register_buffer("a", torch.randint(1, buckets, (hashes,), generator=drawn), persistent=False)
        self.register_buffer("b", torch.randint(1, buckets, (hashes,), generator=drawn), persistent=False)
        self.register_buffer("p", primes[torch.randint(0, len(primes), (hashes,), generator=drawn)], persistent=False)

    a: torch.Tensor
    b: torch.Tensor
    p: torch.Tensor

    @classmethod
    def words(cls, rows: int, dim: int, *, width: int = 64, hashes: int = 1024, layers: int = 5, **_: Any) -> float:
        return (hashes + 1) * width + (layers - 1) * width * (width + 1) + 2 * layers * width + (width + 1) * dim

    @classmethod
    def knob(cls, sizes: Sequence[int], dim: int) -> Knob:
        return Knob("width", 1, MOST_WIDTH)

    def hashed(self, ids: torch.Tensor) -> torch.Tensor:
        """h (m, k) of ids (m,), in [0, buckets); a, b and p are about m, so that products stay within int64 for ids below 2^63 / m."""
        return (ids.unsqueeze(1) * self.a + self.b) % self.p % self.buckets

    def encoded(self, ids: torch.Tensor) -> torch.Tensor:
        """Codes x (m, k) of float32."""
        hashed = self.hashed(ids).to(self.last.weight.dtype)
        if self.codes == "uniform":
            return 2 * hashed / (self.buckets - 1) - 1
        even, odd = (hashed[:, place::2] for place in range(2))
        radius, turn = torch.sqrt(-2 * torch.log((even + 1) / (self.buckets + 1))), 2 * math.pi * odd / self.buckets
        return torch.stack([radius * turn.cos(), radius * turn.sin()], 2).flatten(1)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.encoded(ids)
        bend = nn.functional.mish if self.activation == "mish" else nn.functional.relu
        for linear, norm in zip(self.hidden, self.norms, strict=True):
            x = bend(_normed(norm, linear(x)))
        out: torch.Tensor = self.last(x)
        return out

    def memory(self) -> Memory:
        network = sum(parameter.numel() for parameter in self.parameters())
        statistics = 2 * self.layers * self.width
        return Memory({"network": network}, {"network": network, "statistics": statistics})


def _normed(norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """BatchNorm, by its running statistics where a batch of one id has none of its own."""
    if len(x) > 1 or not norm.training:
        return norm(x)  # type: ignore[no-any-return]  # a module's call
    assert isinstance(norm, nn.BatchNorm1d)
    return nn.functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


def _primes(low: int, high: int) -> torch.Tensor:
    """Primes in [low, high)."""
    prime = torch.ones(high, dtype=torch.bool)
    prime[:2] = False
    for one in range(2, math.isqrt(high) + 1):
        if prime[one]:
            prime[one * one :: one] = False
    return torch.nonzero(prime[low:]).flatten() + low
