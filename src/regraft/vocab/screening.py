r"""The atom of largest product with a residual, for many residuals at once, without computing every product in full precision.

Enters: residuals (b, d) and the atoms (n, d). Leaves: for each residual the index of the best atom and its float32 product. All (b, n)
products are made in a short number format; the atoms that could still be the best, given what rounding can have done, are computed again.
"""

import threading
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

Sign = Literal["signed", "non_negative"]
Ids = npt.NDArray[np.int64]
MANY = 512  # candidates a residual may have before a plain product is cheaper
GROUP = 32  # atoms; a first look at a residual's products keeps the largest of each group
BITS = {torch.bfloat16: (torch.int16, 0x7FFF), torch.float32: (torch.int32, 0x7FFFFFFF)}
DEVIATIONS = 6  # of rounding errors to 8 bits, beyond which a product is not looked for
HALF, ZERO = 63, 64  # residuals in 7 bits: pairs of products with 8-bit atoms then fit the 16 bits in which AVX2 sums them


def screen_for(atoms: torch.Tensor, dtype: torch.dtype) -> "Screen":
    """The screen of `atoms` in bfloat16, float32 or int8."""
    return IntegerScreen(atoms) if dtype == torch.int8 else FloatScreen(atoms, dtype)


class Screen(ABC):
    """Finds, for each residual, the atom of largest (absolute) inner product. `room` is for the products of a block, in bytes."""

    room: ClassVar[int] = 64 << 20

    def __init__(self, atoms: torch.Tensor) -> None:
        self.atoms = atoms

    @abstractmethod
    def possible(self, residuals: torch.Tensor, sign: Sign) -> tuple[Ids, Ids]:
        """Rows and atoms, by row, of all products that could be their row's largest (absolute) one."""

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


class FloatScreen(Screen):
    r"""Products in bfloat16 or float32, with a certain bound.

    With :math:`\hat r, \hat a` the rounded vectors, :math:`|\langle r, a\rangle - \langle\hat r, \hat a\rangle| \le
    \|r - \hat r\|\,\|a\| + \|\hat r\|\,\|a - \hat a\|`; summing in float32 adds at most :math:`\gamma_d \|\hat r\|\|\hat a\|`, rounding
    the result a relative :math:`2^{-8}`. Every atom that this interval allows to be the largest is computed again.
    """

    def __init__(self, atoms: torch.Tensor, dtype: torch.dtype) -> None:
        super().__init__(atoms)
        self.dtype = dtype
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

    def possible(self, residuals: torch.Tensor, sign: Sign) -> tuple[Ids, Ids]:
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


class IntegerScreen(Screen):
    r"""Products of 8-bit integers, with a stated error.

    Residuals are rounded to multiples of :math:`s_r = \max|r| / 63`, atoms to multiples of :math:`s_a = \max|a| / 127`. Rounding errors
    spread evenly over a step, so a product's has the standard deviation :math:`\sqrt{(s_r^2\|a\|^2 + s_a^2\|r\|^2) / 12}`; an atom is
    computed again if it could be the largest within six of them. Atoms of like error share a group, so that a few coarse ones do
    not blur the others.
    """

    room: ClassVar[int] = 9 << 20  # they are written anew each step: beyond a thread's share of the cache that costs a quarter

    def __init__(self, atoms: torch.Tensor) -> None:
        super().__init__(atoms)
        n = len(atoms)
        steps = atoms.abs().amax(dim=1).clamp(min=1e-30) / 127
        lengths = torch.linalg.vector_norm(atoms, dim=1)
        groups = -(-n // GROUP)
        order = torch.full((groups * GROUP,), n)
        order[:n] = torch.argsort(steps)
        order = order.view(groups, GROUP).T.flatten()  # products of a group lie `groups` apart
        self.columns = order.numpy()

        def laid(values: torch.Tensor, empty: float) -> torch.Tensor:
            return torch.cat([values, values.new_full((1, *values.shape[1:]), empty)])[order]

        short = torch.round(atoms / steps[:, None]).to(torch.int8)
        self.packed = torch.ops.onednn.qlinear_prepack(laid(short, 0), None)
        self.scales, self.zeros = laid(steps, 1.0), torch.zeros(len(order), dtype=torch.int64)
        self.coarsest, self.longest = (laid(values, 0.0).view(GROUP, groups).amax(dim=0) for values in (steps, lengths))

    def possible(self, residuals: torch.Tensor, sign: Sign) -> tuple[Ids, Ids]:
        steps = residuals.abs().amax(dim=1, keepdim=True).clamp(min=1e-30) / HALF
        scaled = residuals / steps
        short = (torch.round(scaled) + ZERO).to(torch.uint8)
        products = torch.ops.onednn.qlinear_pointwise(
            short, 1.0, ZERO, self.packed, self.scales, self.zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        if sign == "signed":
            products.abs_()
        grouped = products.view(len(residuals), GROUP, -1)
        largest = grouped.amax(dim=1)
        error = torch.sqrt(self.longest**2 + self.coarsest**2 * scaled.square().sum(dim=1, keepdim=True)) * (DEVIATIONS / 12**0.5)
        least = (largest - error).amax(dim=1, keepdim=True) - error
        rows, groups = np.nonzero((largest >= least).numpy())
        found, places = np.nonzero(grouped.numpy()[rows, :, groups] >= least.numpy()[rows, groups, None])
        rows, atoms = rows[found], self.columns[places * grouped.shape[2] + groups[found]]
        real = atoms < len(self.atoms)
        return rows[real], atoms[real]
