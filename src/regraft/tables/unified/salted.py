"""Hashes of whole numbers and strings, salted with the name of a feature and the number of a chunk.

The same in tensors and in Python's whole numbers, for every int64: x is cut into digits of 31 bits, and no product leaves int64.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch

PRIME = 2**31 - 1
MIX = 73_244_475  # odd: times it is one to one on 31 bits


@dataclass(frozen=True)
class Salted:
    r"""x -> mix((a_0 x_0 + a_1 x_1 + a_2 x_2 + b) mod p) mod `rows`, p = 2^31 - 1, where x_0, x_1, x_2 are digits of 31, 31 and 2 bits.

    2-universal by the linear part; `mix` is one to one and takes the pattern out of ids that follow each other.
    """

    factors: tuple[int, int, int]
    more: int
    rows: int

    @classmethod
    def of(cls, name: str, chunk: int, rows: int, seed: int = 0) -> Self:
        """The hash of chunk `chunk` of feature `name`: it depends on nothing else, so that features may come, go and change places."""
        drawn = hashlib.blake2b(f"{seed}\0{chunk}\0{name}".encode(), digest_size=32).digest()
        a, b, c, more = (int.from_bytes(drawn[8 * place : 8 * place + 8], "little") for place in range(4))
        return cls((a % (PRIME - 1) + 1, b % (PRIME - 1) + 1, c % (PRIME - 1) + 1), more % PRIME, rows)

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows of ids, any int64, the negative ones too."""
        a, b, c = self.factors
        linear = a * (ids & PRIME) + b * ((ids >> 31) & PRIME) + c * ((ids >> 62) & 3)
        return self.mixed((linear + self.more) % PRIME) % self.rows

    def small(self, ids: torch.Tensor) -> torch.Tensor:
        """The same, for ids that are known to lie in [0, 2^31)."""
        return self.mixed((self.factors[0] * ids + self.more) % PRIME) % self.rows

    @staticmethod
    def mixed(h: torch.Tensor) -> torch.Tensor:
        """31 bits onto 31 bits, one to one."""
        h = ((h ^ (h >> 16)) * MIX) & PRIME
        return h ^ (h >> 16)


def numbers_of(values: Sequence[str]) -> torch.Tensor:
    """int64 numbers of strings, by 64 bits of BLAKE2b; each distinct string is read once."""
    known = {value: _number(value) for value in set(values)}
    return torch.tensor([known[value] for value in values], dtype=torch.int64)


def _number(value: str) -> int:
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "little", signed=True)
