r"""Orthogonal matching pursuit for many targets at once.

Enters: targets (m, d), atoms (n, d), k. Leaves: for each target k atoms and least-squares weights. Each step needs the atom with the
largest :math:`|\langle r, a\rangle|` for every residual r, an (m, n) product; it is computed in a short number format where the processor
is fast at it, and the atoms that could still be the largest, given a bound on the rounding, are computed again in float32. So the choice
is the one of float32 whatever the format.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from regraft.graft import iterate_blocks
from regraft.progress import progress_bar
from regraft.vocab.number_format import fast_format

Sign = Literal["signed", "non_negative"]
Ids = npt.NDArray[np.int64]
SMALL = 1e-5  # a residual this much shorter than its target is rounding error: the target is reproduced
DEPENDENT = 1e-6  # an atom with no more than this share of its squared length outside the span of the chosen ones adds nothing
MANY = 512  # candidates a residual may have before a plain product is cheaper
SWEEPS = 60  # of coordinate descent a step; the next step goes on from where it stopped
BITS = {torch.bfloat16: (torch.int16, 0x7FFF), torch.float32: (torch.int32, 0x7FFFFFFF)}


@dataclass(frozen=True)
class Pursuit:
    """`indices` (m, k) of atoms, -1 where a target needed fewer; `weights` (m, k) float64; `residuals` (m, k + 1) norms, float32."""

    indices: Ids
    weights: npt.NDArray[np.float64]
    residuals: npt.NDArray[np.float32]


def matching_pursuit(
    targets: torch.Tensor, atoms: torch.Tensor, k: int, sign: Sign = "signed", screen: torch.dtype | None = None
) -> Pursuit:
    """k atoms and their weights for each target.

    Parameters
    ----------
    targets : (m, d) float32.
    atoms : (n, d) float32, n >= k, none of them zero.
    sign : "non_negative" chooses atoms by positive correlation and keeps all weights >= 0 at every step.
    screen : number format of the (m, n) products; None takes the faster of bfloat16 and float32 here. Does not change the result.

    Memory: a block of targets with their k atoms, and one copy of the atoms.
    """
    m, d = targets.shape
    if m == 0:
        return Pursuit(np.zeros((0, k), dtype=np.int64), np.zeros((0, k)), np.zeros((0, k + 1), dtype=np.float32))
    block = max(16, min(m, 256, (96 << 20) // (4 * k * d), (64 << 20) // (4 * len(atoms))))
    screened = _Screen(atoms, screen or fast_format())
    parts = []
    with progress_bar("matching pursuit", total=m, unit="tokens") as bar, _threads() as pool:
        for part in pool.map(lambda rows: _Block(targets[rows], atoms, k, sign).run(screened), iterate_blocks(m, block)):
            parts.append(part)
            bar.advance(len(part.indices))
    return Pursuit(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("indices", "weights", "residuals")))


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """One worker for each of torch's threads, each with one thread of its own: half of a step is not torch's and would run alone."""
    count = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(count)


class _Screen:
    r"""Finds, for each residual, the atom of largest (absolute) inner product.

    With :math:`\hat r, \hat a` the rounded vectors, :math:`|\langle r, a\rangle - \langle\hat r, \hat a\rangle| \le
    \|r - \hat r\|\,\|a\| + \|\hat r\|\,\|a - \hat a\|`; summing in float32 adds at most :math:`\gamma_d \|\hat r\|\|\hat a\|`, rounding
    the result a relative :math:`2^{-8}`. Every atom that this interval allows to be the largest is computed again.
    """

    def __init__(self, atoms: torch.Tensor, dtype: torch.dtype) -> None:
        self.atoms, self.dtype = atoms, dtype
        self.columns = atoms.T.contiguous().to(dtype)
        rounded = self.columns.T.to(torch.float32)
        self.longest = float(torch.linalg.vector_norm(atoms, dim=1).max())
        self.worst = float(torch.linalg.vector_norm(atoms - rounded, dim=1).max())
        self.summing = 2 * atoms.shape[1] * 2.0**-24
        self.rounding = 2.0**-8 if dtype == torch.bfloat16 else 0.0
        self._kept = threading.local()

    def _buffers(self, count: int) -> tuple[torch.Tensor, npt.NDArray[np.bool_]]:
        """This thread's products and comparisons (count, n): fresh pages for each step would cost more than the product."""
        kept = self._kept
        if getattr(kept, "count", 0) < count:
            kept.count = count
            kept.products = torch.empty(count, len(self.atoms), dtype=self.dtype)
            kept.possible = np.empty((count, len(self.atoms)), dtype=bool)
        return kept.products[:count], kept.possible[:count]

    def best(self, residuals: torch.Tensor, taken: torch.Tensor, sign: Sign) -> tuple[torch.Tensor, torch.Tensor]:
        """Index of the best atom not in `taken` (b, t) for each residual (b, d), and its inner product."""
        products, possible = self._buffers(len(residuals))
        bits, floor = self._screened(residuals, sign, products)
        flat = np.flatnonzero(np.greater_equal(bits, floor[:, None], out=possible))
        rows, columns = torch.from_numpy(flat // bits.shape[1]), torch.from_numpy(flat % bits.shape[1])
        counts = torch.bincount(rows, minlength=len(residuals))
        if int(counts.max()) > MANY:  # the residual is all but orthogonal to every atom: nothing to prune
            return self._dense(residuals, taken, sign)
        value = torch.einsum("cd,cd->c", residuals[rows], self.atoms[columns])
        score = value.abs() if sign == "signed" else value.clone()
        score[(taken[rows] == columns[:, None]).any(dim=1)] = -torch.inf
        table = torch.full((len(residuals), int(counts.max())), -torch.inf)
        first = counts.cumsum(0) - counts
        table[rows, torch.arange(len(rows)) - first[rows]] = score
        place = first + table.argmax(dim=1)
        return columns[place], value[place]

    def _screened(
        self, residuals: torch.Tensor, sign: Sign, products: torch.Tensor
    ) -> tuple[npt.NDArray[np.integer[Any]], npt.NDArray[np.integer[Any]]]:
        """Products (b, n) as integers in the same order as the (absolute) numbers, and what the largest one's rivals must reach."""
        short = residuals.to(self.dtype)
        error = torch.linalg.vector_norm(residuals - short.to(torch.float32), dim=1) * self.longest
        error += torch.linalg.vector_norm(short.to(torch.float32), dim=1) * (self.worst + self.summing * (self.longest + self.worst))
        integer, magnitude = BITS[self.dtype]
        torch.mm(short, self.columns, out=products)
        bits = products.view(integer).numpy()
        if sign == "signed":
            np.bitwise_and(bits, magnitude, out=bits)  # clears the sign; what is left orders like the magnitudes
        top = torch.from_numpy(bits.max(axis=1)).view(self.dtype).to(torch.float32)
        floor = (top * (1 - self.rounding) / (1 + self.rounding) - 2 * error).clamp(min=0.0) * (1 - self.rounding)
        return bits, floor.to(self.dtype).view(integer).numpy()

    def _dense(self, residuals: torch.Tensor, taken: torch.Tensor, sign: Sign) -> tuple[torch.Tensor, torch.Tensor]:
        value = residuals @ self.atoms.T
        score = value.abs() if sign == "signed" else value.clone()
        score.scatter_(1, taken, -torch.inf)
        index = score.argmax(dim=1)
        return index, value.gather(1, index[:, None])[:, 0]


class _Block:
    """A block of targets and what has been chosen for them so far.

    `chosen` holds the atoms themselves, `inverse` the inverse of the Cholesky factor of their Gram matrix, grown a row a step. A row that
    is finished gets empty places: zero atoms with weight 0.
    """

    def __init__(self, targets: torch.Tensor, atoms: torch.Tensor, k: int, sign: Sign) -> None:
        b, d = targets.shape
        self.targets, self.atoms, self.k, self.sign = targets, atoms, k, sign
        self.indices = torch.full((b, k), -1, dtype=torch.int64)
        self.chosen = torch.zeros(b, k, d)
        self.gram = torch.zeros(b, k, k, dtype=torch.float64)
        self.inverse = torch.zeros(b, k, k, dtype=torch.float64)
        self.along = torch.zeros(b, k, dtype=torch.float64)  # targets in the orthonormal basis of the chosen atoms, or their products
        self.weights = torch.zeros(b, k, dtype=torch.float64)
        self.residual = targets.clone()

    def run(self, screen: _Screen) -> Pursuit:
        """All k steps, then the weights in float64."""
        lengths = torch.linalg.vector_norm(self.targets, dim=1)
        norms = [lengths]
        for t in range(self.k):
            going = norms[-1] > SMALL * lengths
            rows = going.nonzero()[:, 0]
            if len(rows):
                index, value = screen.best(self.residual[rows], self.indices[rows, :t].clamp(min=0), self.sign)
                size = torch.linalg.vector_norm(self.atoms[index], dim=1) * norms[-1][rows]
                reachable = (value.abs() if self.sign == "signed" else value) > SMALL * size
                self._add(t, rows[reachable], index[reachable])
            norms.append(torch.linalg.vector_norm(self.residual, dim=1))
        if self.sign == "signed":
            self._polish()
        weights = self.weights.masked_fill(self.indices < 0, 0.0)
        return Pursuit(self.indices.numpy(), weights.numpy(), torch.stack(norms, dim=1).numpy())

    def _add(self, t: int, rows: torch.Tensor, index: torch.Tensor) -> None:
        """Step t: atom `index` joins the block's `rows`; weights and residuals follow."""
        atom = torch.zeros_like(self.targets)
        atom[rows] = self.atoms[index]
        self.indices[rows, t] = index
        product = torch.bmm(atom[:, None], self.chosen[:, :t].transpose(1, 2))[:, 0].to(torch.float64)
        square = atom.to(torch.float64).square().sum(dim=1)
        along = (atom.to(torch.float64) * self.targets).sum(dim=1)
        self.chosen[:, t] = atom
        if self.sign == "signed":
            self._extend_factor(t, product, square, along)
        else:
            self._solve_non_negative(t, product, square, along)
        span = self.chosen[:, : t + 1]
        self.residual = self.targets - torch.bmm(self.weights[:, None, : t + 1].to(torch.float32), span)[:, 0]

    def _extend_factor(self, t: int, product: torch.Tensor, square: torch.Tensor, along: torch.Tensor) -> None:
        r"""One row of :math:`L^{-1}` for the Gram matrix :math:`L L^\top`, and the least-squares weights."""
        known = self.inverse[:, :t, :t]
        row = torch.bmm(known, product[:, :, None])[:, :, 0]
        left = square - row.square().sum(dim=1)
        independent = left > DEPENDENT * square
        self.indices[~independent, t] = -1
        self.chosen[~independent, t] = 0
        scale = torch.where(independent, left.clamp(min=1e-300).rsqrt(), 0.0)
        self.inverse[:, t, :t] = -scale[:, None] * torch.bmm(row[:, None], known)[:, 0]
        self.inverse[:, t, t] = scale
        self.along[:, t] = scale * (along - (row * self.along[:, :t]).sum(dim=1))
        self.weights[:, : t + 1] = torch.bmm(self.along[:, None, : t + 1], self.inverse[:, : t + 1, : t + 1])[:, 0]

    def _solve_non_negative(self, t: int, product: torch.Tensor, square: torch.Tensor, along: torch.Tensor) -> None:
        """Non-negative least squares over the chosen atoms, by coordinate descent from the last step's weights."""
        self.gram[:, t, :t] = self.gram[:, :t, t] = product
        self.gram[:, t, t] = torch.where(square > 0, square, 1.0)
        self.along[:, t] = along
        gram, weights = self.gram[:, : t + 1, : t + 1], self.weights[:, : t + 1]
        tolerance = 1e-7 * self.along[:, : t + 1].abs().amax(dim=1)
        for _ in range(SWEEPS):
            change = torch.zeros(len(weights), dtype=torch.float64)
            for i in range(t, -1, -1):
                slope = (gram[:, i] * weights).sum(dim=1) - self.along[:, i]
                new = (weights[:, i] - slope / gram[:, i, i]).clamp(min=0)
                change = torch.maximum(change, (new - weights[:, i]).abs() * gram[:, i, i])
                weights[:, i] = new
            if bool((change <= tolerance).all()):
                break

    def _polish(self) -> None:
        """Least squares over the chosen atoms once more, in float64 throughout: float32 products cost digits where atoms are alike."""
        atoms = self.chosen.to(torch.float64)
        empty = torch.diag_embed((self.indices < 0).to(torch.float64))
        factor, failed = torch.linalg.cholesky_ex(torch.bmm(atoms, atoms.transpose(1, 2)) + empty)
        product = torch.bmm(atoms, self.targets.to(torch.float64)[:, :, None])
        solved = torch.cholesky_solve(product, factor)[:, :, 0]
        self.weights = torch.where(failed[:, None] == 0, solved, self.weights)
