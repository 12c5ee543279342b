r"""The atom of largest product with a residual, for many residuals at once, without computing every product in full precision.

Enters: residuals (b, d) and the atoms (n, d). Leaves: for each residual the index of the best atom and its float32 product. All (b, n)
products are made in a short number format; the atoms that could still be the best, given what rounding can have done, are computed again.
"""

import threading
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

SMALL = 1e-5  # a residual this much shorter than its target is rounding error: the target is reproduced
DEPENDENT = 1e-6  # an atom with no more than this share of its squared length outside the span of the chosen ones adds nothing
SWEEPS = 60  # of coordinate descent a step; the next step goes on from where it stopped

Sign = Literal["signed", "non_negative"]
Ids = npt.NDArray[np.int64]
MANY = 512  # candidates a residual may have before a plain product is cheaper
GROUP = 32  # atoms; a first look at a residual's products keeps the largest of each group
BITS = {torch.bfloat16: (torch.int16, 0x7FFF), torch.float32: (torch.int32, 0x7FFFFFFF)}


class Screen:
    r"""Finds, for each residual, the atom of largest (absolute) inner product, by products in bfloat16 or float32, with a certain bound.

    With :math:`\hat r, \hat a` the rounded vectors, :math:`|\langle r, a\rangle - \langle\hat r, \hat a\rangle| \le
    \|r - \hat r\|\,\|a\| + \|\hat r\|\,\|a - \hat a\|`; summing in float32 adds at most :math:`\gamma_d \|\hat r\|\|\hat a\|`, rounding
    the result a relative :math:`2^{-8}`. Every atom that this interval allows to be the largest is computed again.
    """

    room: ClassVar[int] = 64 << 20  # bytes, for the products of a block

    def __init__(self, atoms: torch.Tensor, dtype: torch.dtype) -> None:
        self.atoms, self.dtype = atoms, dtype
        self.short = torch.zeros(-(-len(atoms) // GROUP) * GROUP, atoms.shape[1], dtype=dtype)
        self.short[: len(atoms)] = atoms
        rounded = self.short[: len(atoms)].to(torch.float32)
        self.longest = float(torch.linalg.vector_norm(atoms, dim=1).max())
        self.worst = float(torch.linalg.vector_norm(atoms - rounded, dim=1).max())
        self.summing = 2 * atoms.shape[1] * 2.0**-24
        self.rounding = 2.0**-8 if dtype == torch.bfloat16 else 0.0
        self._kept = threading.local()

    def _buffer(self, count: int) -> torch.Tensor:
        """This thread's products (n rounded up, count): fresh pages for each step would cost more than the product."""
        kept = self._kept
        if getattr(kept, "count", None) != count:
            kept.count = count
            kept.products = torch.empty(len(self.short), count, dtype=self.dtype)
        products: torch.Tensor = kept.products
        return products

    def best(self, residuals: torch.Tensor, taken: torch.Tensor, sign: Sign) -> tuple[torch.Tensor, torch.Tensor]:
        """Index of the best atom not in `taken` (b, t) for each residual (b, d), and its inner product."""
        rows, columns = map(torch.from_numpy, self.possible(residuals, sign))
        counts = torch.bincount(rows, minlength=len(residuals))
        if int(counts.max()) > MANY or int(counts.min()) == 0:  # a residual is all but orthogonal to every atom, or behind all of them
            return self._dense(residuals, taken, sign)
        value = torch.einsum("cd,cd->c", residuals[rows], self.atoms[columns])
        score = value.abs() if sign == "signed" else value.clone()
        score[(taken[rows] == columns[:, None]).any(dim=1)] = -torch.inf
        table = torch.full((len(residuals), int(counts.max())), -torch.inf)
        first = counts.cumsum(0) - counts
        table[rows, torch.arange(len(rows)) - first[rows]] = score
        place = first + table.argmax(dim=1)
        return columns[place], value[place]

    def _dense(self, residuals: torch.Tensor, taken: torch.Tensor, sign: Sign) -> tuple[torch.Tensor, torch.Tensor]:
        value = residuals @ self.atoms.T
        score = value.abs() if sign == "signed" else value.clone()
        score.scatter_(1, taken, -torch.inf)
        index = score.argmax(dim=1)
        return index, value.gather(1, index[:, None])[:, 0]

    def possible(self, residuals: torch.Tensor, sign: Sign) -> tuple[Ids, Ids]:
        """Rows and atoms, by row, of all products that could be their row's largest (absolute) one."""
        products = self._buffer(len(residuals))
        short = residuals.to(self.dtype)
        error = torch.linalg.vector_norm(residuals - short.to(torch.float32), dim=1) * self.longest
        error += torch.linalg.vector_norm(short.to(torch.float32), dim=1) * (self.worst + self.summing * (self.longest + self.worst))
        integer, magnitude = BITS[self.dtype]
        torch.mm(self.short, short.T, out=products)
        bits = products.view(integer).numpy()  # as integers they are in the same order as the numbers
        if sign == "signed":
            np.bitwise_and(bits, magnitude, out=bits)  # clears the sign; what is left orders like the magnitudes
        bits = bits.reshape(-1, GROUP, len(residuals))
        largest = bits.max(axis=1)
        top = torch.from_numpy(largest.max(axis=0)).view(self.dtype).to(torch.float32)
        floor = (top * (1 - self.rounding) / (1 + self.rounding) - 2 * error).clamp(min=0.0) * (1 - self.rounding)
        least = floor.to(self.dtype).view(integer).numpy()
        groups, rows = np.nonzero(largest >= least)
        found, places = np.nonzero(bits[groups, :, rows] >= least[rows, None])
        rows, columns = rows[found], groups[found] * GROUP + places
        order = np.argsort(rows, kind="stable")
        order = order[columns[order] < len(self.atoms)]
        return rows[order], columns[order]
