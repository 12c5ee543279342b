r"""Matching pursuit target by target, over the Gram matrix of the atoms: the fastest way where that matrix fits in memory.

Enters: targets (m, d), atoms (n, d), k. Leaves: for each target k atoms, least-squares weights and the lengths of the residuals. With the
weights *w* of the atoms *I* taken so far, the products of all atoms with the residual are
:math:`A r = A x - \sum_{i \in I} w_i G_i`, at n products an atom taken where :math:`A r` itself takes n d. The rows *G* are kept as 16-bit
integers with a step each; atoms that could be the best within what rounding can have done are computed again in float64, so the choice is
that of full precision. One target's rows stay in the cache over all its steps, which is why the loop is compiled (numba) and not batched.
"""

from collections.abc import Callable
from typing import Any, cast

import numba
import numpy as np
import numpy.typing as npt
import torch

from regraft.graft import iterate_blocks
from regraft.vocab.initializers.omp.screening import DEPENDENT, SMALL, SWEEPS

TILE = 2048  # atoms whose products are summed at a time: they stay in the second cache
ROWS = 4  # of the Gram matrix read together
TAKEN = np.float32(-1e30)
FLOAT_STEP = 2.0**-24  # relative rounding error of float32

Found = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float32]]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as machine code that runs beside other threads, kept on disk from the first use on where there is a place to write.

    Sums may be taken in any order, and there must be no infinities.
    """
    try:
        done = numba.njit(fastmath=True, nogil=True, cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        done = numba.njit(fastmath=True, nogil=True)(function)
    return cast(Callable[..., Any], done)


class GramMatrix:
    """Products of all atoms (n, n) as 16-bit integers: 2 n^2 bytes, made block by block."""

    def __init__(self, atoms: torch.Tensor) -> None:
        n, d = atoms.shape
        self.atoms = np.ascontiguousarray(atoms.numpy())
        self.squares = np.square(self.atoms, dtype=np.float64).sum(axis=1)
        self.values, self.steps = np.empty((n, n), dtype=np.int16), np.empty(n)
        self.summing = (
            2 * d * FLOAT_STEP * float(np.sqrt(self.squares.max()))
        )  # times a target's or an atom's length: error of its float32 products
        for rows in iterate_blocks(n, max(1, (32 << 20) // (4 * n))):
            products = atoms[rows] @ atoms.T
            steps = products.abs().amax(dim=1, keepdim=True) / 32767
            torch.from_numpy(self.values[rows]).copy_(products.div_(steps).round_())
            self.steps[rows] = steps[:, 0].numpy()

    def pursue(self, targets: torch.Tensor, k: int, *, non_negative: bool) -> Found:
        """Atoms (m, k), -1 where a target needed fewer; weights (m, k); lengths of residuals (m, k + 1)."""
        m = len(targets)
        found = np.full((m, k), -1, dtype=np.int64), np.zeros((m, k)), np.zeros((m, k + 1), dtype=np.float32)
        products = (targets @ torch.from_numpy(self.atoms).T).numpy()
        given = targets.to(torch.float64).numpy()
        _pursue(given, products, self.atoms, self.squares, self.values, self.steps, self.summing, non_negative, *found)
        return found


@compiled
def _pursue(  # type: ignore[no-untyped-def]
    targets, products, atoms, squares, gram, steps, summing, non_negative, indices, weights, lengths
):
    k, n = indices.shape[1], len(atoms)
    scores, peaks = np.empty(n, dtype=np.float32), np.empty((n + TILE - 1) // TILE, dtype=np.float32)
    for row in range(len(targets)):
        target = targets[row]
        chosen, weight = indices[row], weights[row]
        triangle, along = np.zeros((k, k)), np.zeros(k)
        residual = target.copy()
        length = whole = np.sqrt((target * target).sum())
        lengths[row, :] = whole
        for t in range(k):
            if length <= SMALL * whole:
                break
            error = _score(products[row], chosen[:t], weight, gram, steps, scores, peaks, non_negative) + 2 * summing * whole
            for i in range(t):  # the matrix was made in float32 too
                error += 2 * summing * abs(weight[i]) * np.sqrt(squares[chosen[i]])
            atom, value = _best(residual, atoms, scores, peaks, error, non_negative)
            if value <= SMALL * np.sqrt(squares[atom]) * length:
                break
            if non_negative:
                _join_non_negative(t, atom, target, atoms, squares, chosen, triangle, along, weight)
            elif not _join(t, atom, target, atoms, squares, chosen, triangle, along, weight):
                break
            chosen[t] = atom
            residual[:] = target
            for i in range(t + 1):
                part, share = atoms[chosen[i]], weight[i]
                for j in range(len(residual)):
                    residual[j] -= share * part[j]
            length = np.sqrt(_product(residual, residual))
            lengths[row, t + 1 :] = length


@compiled
def _score(first, chosen, weight, gram, steps, scores, peaks, non_negative):  # type: ignore[no-untyped-def]
    """Products of all atoms with the residual (their magnitudes if signed) into `scores`, the largest of each tile into `peaks`.

    Atoms that are chosen get the lowest score. Returns twice what rounding did at most.
    """
    error, count = 0.0, len(chosen)
    factors = np.empty(count, dtype=np.float32)
    for i in range(count):
        factors[i] = weight[i] * steps[chosen[i]]
        error += abs(weight[i]) * steps[chosen[i]] * (0.5 + 32767 * (count + 2) * FLOAT_STEP)
    for start in range(0, len(scores), TILE):
        part = scores[start : start + TILE]
        part[:] = first[start : start + TILE]
        whole = count - count % ROWS
        for i in range(0, whole, ROWS):
            a, b, c, d = factors[i], factors[i + 1], factors[i + 2], factors[i + 3]
            p, q = gram[chosen[i], start : start + TILE], gram[chosen[i + 1], start : start + TILE]
            r, s = gram[chosen[i + 2], start : start + TILE], gram[chosen[i + 3], start : start + TILE]
            for j in range(len(part)):
                part[j] -= (a * np.float32(p[j]) + b * np.float32(q[j])) + (c * np.float32(r[j]) + d * np.float32(s[j]))
        for i in range(whole, count):
            a, p = factors[i], gram[chosen[i], start : start + TILE]
            for j in range(len(part)):
                part[j] -= a * np.float32(p[j])
        if not non_negative:
            for j in range(len(part)):
                part[j] = abs(part[j])
        for i in range(count):
            if start <= chosen[i] < start + TILE:
                part[chosen[i] - start] = TAKEN
        peak = part[0]
        for j in range(len(part)):
            peak = max(peak, part[j])
        peaks[start // TILE] = peak
    return 2 * error


@compiled
def _best(residual, atoms, scores, peaks, error, non_negative):  # type: ignore[no-untyped-def]
    """The atom of largest product with the residual (in magnitude if signed), and that product, in float64."""
    least = np.float32(peaks.max() - error)
    best, largest = -1, 0.0
    for tile in range(len(peaks)):
        if peaks[tile] < least:
            continue
        for i in range(tile * TILE, min((tile + 1) * TILE, len(scores))):
            if scores[i] >= least:
                value = _product(atoms[i], residual)
                if not non_negative:
                    value = abs(value)
                if best < 0 or value > largest:
                    best, largest = i, value
    return best, largest


@compiled
def _join(t, atom, target, atoms, squares, chosen, triangle, along, weight):  # type: ignore[no-untyped-def]
    """Atom t joins the Cholesky factor, and `weight` is solved anew; False, and nothing done, where it lies in the span of the others."""
    left = squares[atom]
    for i in range(t):
        value = _product(atoms[atom], atoms[chosen[i]])
        for j in range(i):
            value -= triangle[t, j] * triangle[i, j]
        triangle[t, i] = value / triangle[i, i]
        left -= triangle[t, i] ** 2
    if left <= DEPENDENT * squares[atom]:
        return False
    triangle[t, t] = np.sqrt(left)
    value = _product(atoms[atom], target)
    for i in range(t):
        value -= triangle[t, i] * along[i]
    along[t] = value / triangle[t, t]
    for i in range(t, -1, -1):
        value = along[i]
        for j in range(i + 1, t + 1):
            value -= triangle[j, i] * weight[j]
        weight[i] = value / triangle[i, i]
    return True


@compiled
def _join_non_negative(t, atom, target, atoms, squares, chosen, products, along, weight):  # type: ignore[no-untyped-def]
    """Atom t joins; non-negative least squares by coordinate descent from the last step's weights."""
    for i in range(t):
        products[i, t] = products[t, i] = _product(atoms[atom], atoms[chosen[i]])
    products[t, t] = squares[atom]
    along[t] = _product(atoms[atom], target)
    tolerance = 1e-7 * np.abs(along[: t + 1]).max()
    for _ in range(SWEEPS):
        change = 0.0
        for i in range(t, -1, -1):
            slope = -along[i]
            for j in range(t + 1):
                slope += products[i, j] * weight[j]
            new = max(0.0, weight[i] - slope / products[i, i])
            change = max(change, abs(new - weight[i]) * products[i, i])
            weight[i] = new
        if change <= tolerance:
            break


@compiled
def _product(one, other):  # type: ignore[no-untyped-def]
    value = 0.0
    for i in range(len(one)):
        value += np.float64(one[i]) * np.float64(other[i])
    return value
