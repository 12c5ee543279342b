r"""Random rows, a table a sequence, made from a key: the row of a symbol in a sequence is a function of (seed of the sequence, symbol).

The same row comes out wherever and whenever it is asked for, so a table goes on through generation, and rows can be made one by one. Bits
are those of SplitMix64's finalizer over seed, symbol and column; pairs of them become normal numbers (Box and Muller).
"""

import math
from typing import Literal

import torch
from torch import Tensor

from regraft.errors import ParameterError

Rows = Literal["gaussian", "orthonormal"]
GOLDEN = -7046029254386353131  # 2^64 over the golden ratio, as a signed number


def keyed_rows(seeds: Tensor, ids: Tensor, dim: int) -> Tensor:
    """Rows of N(0, I): seeds (n,) and ids (n, m), or (m,) for all, int64 -> float32 (n, m, dim)."""
    key = _mixed(_mixed(seeds * GOLDEN + 1)[:, None] ^ (ids.expand(len(seeds), -1) + 1) * GOLDEN)
    columns = torch.arange(1, dim + dim % 2 + 1, device=seeds.device) * GOLDEN
    share = ((_mixed(key.unsqueeze(-1) + columns) >> 11) & (2**53 - 1)).double() / 2**53  # in [0, 1)
    first, second = (1 - share[..., 0::2]), share[..., 1::2] * (2 * math.pi)
    radius = (-2 * first.log()).sqrt()
    return torch.stack([radius * second.cos(), radius * second.sin()], -1).flatten(-2)[..., :dim].float()


def keyed_shares(seeds: Tensor, size: int) -> Tensor:
    """Uniform numbers in [0, 1) by (seed, symbol), that have nothing to do with the rows: (n, size)."""
    ids = torch.arange(size, device=seeds.device)
    key = _mixed(_mixed(seeds * GOLDEN + 2)[:, None] ^ (ids + 1) * GOLDEN)
    return ((key >> 11) & (2**53 - 1)).double() / 2**53


def tables(seeds: Tensor, size: int, dim: int, rows: Rows = "gaussian") -> Tensor:
    """A table for each of seeds (n,): (n, size, dim). "orthonormal": rows at right angles and of length sqrt(dim), for size <= dim."""
    check_rows(size, dim, rows)
    found = keyed_rows(seeds, torch.arange(size, device=seeds.device), dim)
    if rows == "orthonormal":
        square, upper = torch.linalg.qr(found.mT)
        signs = upper.diagonal(dim1=1, dim2=2).sign()  # as LAPACK leaves them, they give away which row is which
        found = (square * signs.unsqueeze(1)).mT * dim**0.5
    return found


def check_rows(size: int, dim: int, rows: Rows) -> None:
    """Raise `ParameterError` for rows that cannot be had."""
    if rows not in ("gaussian", "orthonormal"):
        raise ParameterError(f"rows {rows}: choose gaussian or orthonormal")
    if rows == "orthonormal" and size > dim:
        raise ParameterError(f"orthonormal rows: {size} symbols do not fit into {dim} dimensions: give more, or gaussian rows")


def fresh_seeds(n: int, device: torch.device | str = "cpu") -> Tensor:
    """Seeds (n,) by torch's own generator."""
    return torch.randint(2**62, (n,), device=device)


def first_seen(ids: Tensor) -> Tensor:
    """Which new symbol of its sequence each is: (n, length) -> ranks (n, length), 0 for the first symbol and all equal to it."""
    same = ids.unsqueeze(1) == ids.unsqueeze(2)
    first = same.int().argmax(2)  # where each symbol stood first
    new = first == torch.arange(ids.shape[1], device=ids.device)
    return (new.cumsum(1) - 1).gather(1, first)


def _mixed(x: Tensor) -> Tensor:
    """The finalizer: every bit of an int64 depends on all others."""
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        x = (x ^ _shifted(x, shift)) * factor
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, by: int) -> Tensor:
    """To the right, with zeros."""
    moved: Tensor = (x >> by) & (2 ** (64 - by) - 1)
    return moved
