"""Decoders: from one vector a node to the entries of a matrix.

`LowRank` is LoGAH's (section 2.4): W = A B^T with A and B of K x r, of which only the rows that a tensor needs are computed. `Dense` is
GHN-3's: all d x d x k x k entries at once, repeated where a tensor is larger. `Flat` gives scale and bias without either.
"""

from typing import Literal, Protocol

import torch
from torch import nn
from torch.nn.functional import linear, relu

Layout = Literal["view", "transpose"]


class Decoder(Protocol):
    """`matrix` gives (n, out, in, height, width) for n node vectors, up to `limits`; `exact`: it computes no more than that."""

    exact: bool

    def limits(self, height: int, width: int) -> tuple[int, int]: ...
    def matrix(self, h: torch.Tensor, out: int, into: int, height: int, width: int) -> torch.Tensor: ...


class LowRank(nn.Module):
    """Low-rank decoder.

    Parameters
    ----------
    d, r, K : width of node vectors, rank, and the largest out * height or in * width.
    layout : "view" reads the 2r x K array's memory as 2K x r, as the released code does; "transpose" transposes it.
    max_shape : largest channel count, past which tensors are repeated; None: K decides.

    It has 4 d^2 + 32 d^2 + 16 d r^2 + r K weights and 12 d + 2 r^2 + K biases.
    """

    exact = True

    def __init__(self, d: int, r: int, K: int, *, layout: Layout = "view", max_shape: int | None = None) -> None:
        super().__init__()
        self.r, self.K, self.layout, self.max_shape = r, K, layout, max_shape
        self.inner = nn.Sequential(nn.Linear(d, 4 * d), nn.ReLU(), nn.Linear(4 * d, 8 * d), nn.ReLU(), nn.Linear(8 * d, 2 * r * r))
        self.outer = nn.Linear(r, K)

    def limits(self, height: int, width: int) -> tuple[int, int]:
        most = (self.K // height, self.K // width)
        return most if self.max_shape is None else (min(self.max_shape, most[0]), min(self.max_shape, most[1]))

    def matrix(self, h: torch.Tensor, out: int, into: int, height: int, width: int) -> torch.Tensor:
        A, B = self.factors(h, out * height, into * width)
        return (A @ B.mT).view(-1, out, height, into, width).transpose(2, 3)

    def factors(self, h: torch.Tensor, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The first `rows` of A (n, rows, r) and the first `columns` rows of B (n, columns, r)."""
        z = relu(self.inner(h)).view(-1, 2, self.r, self.r)
        return self._factor(z[:, 0], rows), self._factor(z[:, 1], columns)

    def _factor(self, z: torch.Tensor, rows: int) -> torch.Tensor:
        """The first `rows` rows of one factor from its r latent rows, z (n, r, r)."""
        weight, bias = self.outer.weight, self.outer.bias
        if self.layout == "transpose":
            return linear(z, weight[:rows], bias[:rows]).mT
        entries = rows * self.r
        latent, columns = -(-entries // self.K), min(entries, self.K)
        flat = linear(z[:, :latent], weight[:columns], bias[:columns]).flatten(1)
        return flat[:, :entries].view(-1, rows, self.r)


class Dense(nn.Module):
    """GHN-3's decoder: a perceptron that gives `size` x `size` matrices at `kernel` x `kernel` places; its size grows with d^3."""

    exact = False

    def __init__(self, d: int, *, size: int | None = None, kernel: int = 16) -> None:
        super().__init__()
        self.size, self.kernel, self.d = size or d, kernel, d
        self.places = nn.Linear(d, 4 * d * kernel * kernel)
        self.entries = nn.Sequential(nn.Linear(4 * d, 8 * d), nn.ReLU(), nn.Linear(8 * d, self.size * self.size))

    def limits(self, height: int, width: int) -> tuple[int, int]:
        return self.size, self.size

    def matrix(self, h: torch.Tensor, out: int, into: int, height: int, width: int) -> torch.Tensor:
        """A kernel larger than the decoder's is repeated; of places that are not needed nothing is computed."""
        k = self.kernel
        latent = relu(self.places(h)).view(-1, 4 * self.d, k, k)[:, :, :height, :width].permute(0, 2, 3, 1)
        full = self.entries(latent).view(len(h), min(height, k), min(width, k), self.size, self.size)
        cut: torch.Tensor = full[..., :out, :into].permute(0, 3, 4, 1, 2)
        return cut.repeat(1, 1, 1, -(-height // k), -(-width // k))[..., :height, :width]


class Flat(nn.Module):
    """Scale and bias of up to `most` channels by a decoder of their own (`use_1d_decoder`)."""

    def __init__(self, d: int, most: int) -> None:
        super().__init__()
        self.most = most
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.ReLU(), nn.Linear(2 * d, 2 * most))

    def forward(self, h: torch.Tensor, size: int) -> torch.Tensor:
        """(n, 2, size): row 0 the scale, row 1 the bias."""
        both: torch.Tensor = self.mlp(h).view(-1, 2, self.most)
        return both[..., :size]
