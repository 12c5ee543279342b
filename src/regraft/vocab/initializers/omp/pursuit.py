r"""Orthogonal matching pursuit for many targets at once.

Enters: targets (m, d), atoms (n, d), k. Leaves: for each target k atoms and least-squares weights. Each step needs the atom with the
largest :math:`|\langle r, a\rangle|` for every residual r. `gram_pursuit` finds it from the Gram matrix of the atoms; where
that is too large, or products cost next to nothing, `screening` from an (m, n) product for the block of targets here.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from regraft.errors import ParameterError
from regraft.graft import iterate_blocks
from regraft.language.precision import fast_format, has_tiles
from regraft.progress import progress_bar
from regraft.vocab.initializers.omp.screening import DEPENDENT, SMALL, SWEEPS, Ids, Screen, Sign

GRAM_BYTES = 2**30  # for the Gram matrix: up to 23,170 atoms
PAYS = 32  # times as many atoms as targets, and their Gram matrix costs more than it saves
SMALL_WORK = 10**7  # products of targets and atoms: done sooner than code is compiled
POLISHED = 16  # targets at once: their atoms in float64 stay in the cache


@dataclass(frozen=True)
class Pursuit:
    """`indices` (m, k) of atoms, -1 where a target needed fewer; `weights` (m, k) float64; `residuals` (m, k + 1) norms, float32."""

    indices: Ids
    weights: npt.NDArray[np.float64]
    residuals: npt.NDArray[np.float32]


def matching_pursuit(
    targets: torch.Tensor, atoms: torch.Tensor, k: int, sign: Sign = "signed", products: Literal["gram"] | torch.dtype | None = None
) -> Pursuit:
    """k atoms and their weights for each target.

    Parameters
    ----------
    targets : (m, d) float32.
    atoms : (n, d) float32, n >= k, none of them zero.
    sign : "non_negative" chooses atoms by positive correlation and keeps all weights >= 0 at every step.
    products : where the products with the residuals come from, without effect on the result: "gram", 2 n^2 bytes of the atoms' own; or
        the number format in which they are made, bfloat16 or float32. None takes the fastest that has room.

    Memory: that, a block of targets with their k atoms, and one copy of the atoms.
    """
    m, d = targets.shape
    if m == 0:
        return Pursuit(np.zeros((0, k), dtype=np.int64), np.zeros((0, k)), np.zeros((0, k + 1), dtype=np.float32))
    n = len(atoms)
    if products is None:
        pays = m * n >= SMALL_WORK and 2 * n * n <= GRAM_BYTES and n <= PAYS * m
        products = "gram" if pays and not (sign == "signed" and has_tiles()) else fast_format()  # non-negative weights take the time there
    block = max(16, min(m, 256, (96 << 20) // (4 * k * d), Screen.room // (4 * n)))
    parts = []
    with progress_bar("matching pursuit", total=m, unit="tokens") as bar, _exact_products():
        run = _by_gram(atoms, k, sign) if products == "gram" else _by_screen(atoms, k, sign, products)
        with _threads() as pool:
            for part in pool.map(lambda rows: run(targets[rows]), iterate_blocks(m, block)):
                parts.append(part)
                bar.advance(len(part.indices))
    return Pursuit(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("indices", "weights", "residuals")))


def _by_gram(atoms: torch.Tensor, k: int, sign: Sign) -> Callable[[torch.Tensor], Pursuit]:
    try:
        from regraft.vocab.initializers.omp.gram_pursuit import GramMatrix  # numba takes half a second to import
    except ModuleNotFoundError as error:
        raise ParameterError(f"omp needs the package '{error.name}' for its compiled loop: pip install 'regraft[omp]'") from None

    matrix = GramMatrix(atoms)
    return lambda targets: Pursuit(*matrix.pursue(targets, k, non_negative=sign == "non_negative"))


def _by_screen(atoms: torch.Tensor, k: int, sign: Sign, dtype: torch.dtype) -> Callable[[torch.Tensor], Pursuit]:
    screen = Screen(atoms, dtype)
    return lambda targets: _Block(targets, atoms, k, sign).run(screen)


@contextmanager
def _exact_products() -> Iterator[None]:
    """Products of float32 in float32, whatever else is computed in bfloat16 now: the bounds on their errors count on it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """One worker for each of torch's threads, each with one thread of its own: half of a step is not torch's and would run alone."""
    count = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(count)


class _Block:
    """A block of targets and what has been chosen for them so far.

    `span` holds an orthonormal basis of the chosen atoms (signed) or the atoms themselves, a row more each step. A row that is finished
    gets empty places: zero atoms with weight 0.
    """

    def __init__(self, targets: torch.Tensor, atoms: torch.Tensor, k: int, sign: Sign) -> None:
        b, d = targets.shape
        self.targets, self.atoms, self.k, self.sign = targets, atoms, k, sign
        self.indices = torch.full((b, k), -1, dtype=torch.int64)
        self.span = torch.zeros(b, k, d)
        self.gram = torch.zeros(b, k, k, dtype=torch.float64)
        self.along = torch.zeros(b, k, dtype=torch.float64)  # products of the targets and the chosen atoms
        self.weights = torch.zeros(b, k, dtype=torch.float64)
        self.residual = targets.clone()

    def run(self, screen: Screen) -> Pursuit:
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
        product = torch.bmm(atom[:, None], self.span[:, :t].transpose(1, 2))
        if self.sign == "signed":
            self._extend_basis(t, atom, product)
            return
        exact = atom.to(torch.float64)
        self.span[:, t] = atom
        self._solve_non_negative(t, product[:, 0].to(torch.float64), exact.square().sum(dim=1), (exact * self.targets).sum(dim=1))
        span = self.span[:, : t + 1]
        self.residual = self.targets - torch.bmm(self.weights[:, None, : t + 1].to(torch.float32), span)[:, 0]

    def _extend_basis(self, t: int, atom: torch.Tensor, product: torch.Tensor) -> None:
        """Gram-Schmidt: what is new in the atom joins the basis, and leaves the residual."""
        new = torch.baddbmm(atom[:, None], product, self.span[:, :t], alpha=-1)[:, 0]
        square, left = atom.square().sum(dim=1), new.square().sum(dim=1)
        independent = left > DEPENDENT * square
        self.indices[~independent, t] = -1
        new *= torch.where(independent, left.clamp(min=1e-30).rsqrt(), 0.0)[:, None]
        self.span[:, t] = new
        self.residual -= (self.residual * new).sum(dim=1, keepdim=True) * new

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
        """Least squares over the chosen atoms, in float64: float32 products cost digits where atoms are alike."""
        for rows in iterate_blocks(len(self.targets), POLISHED):
            empty = self.indices[rows] < 0
            atoms = self.atoms[self.indices[rows].clamp(min=0)].to(torch.float64).masked_fill_(empty[:, :, None], 0.0)
            gram = torch.bmm(atoms, atoms.transpose(1, 2)) + torch.diag_embed(empty.to(torch.float64))
            product = torch.bmm(atoms, self.targets[rows].to(torch.float64)[:, :, None])
            self.weights[rows] = torch.cholesky_solve(product, torch.linalg.cholesky(gram))[:, :, 0]
