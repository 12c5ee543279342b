"""Kernels of Gaussian-process hypothesis spaces, k(a, b) between rows (a, d) and (b, d), with the field's definitions.

The last two are those of networks of infinite width with ReLU and He's weights (variance 2 by fan-in), without biases: the arc-cosine
kernel of order 1, applied once a hidden layer (Cho and Saul 2009), and its convolutional form over square images, 3 x 3 with zeros around,
read out from all pixels (Novak et al. 2019).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist, pdist

from regraft.errors import ParameterError
from regraft.probe.probes.inductive_bias.specs import Spec

Floats = npt.NDArray[np.float64]
FOR_MEDIAN = 1000  # rows whose distances give the median
ENTRIES = 4_000_000  # numbers of a block of images by images by pixels
SCALED = ("rbf", "laplace", "matern32", "matern52")


@dataclass(frozen=True)
class Kernel:
    """A kernel with its scale; `sigma` is None for those that have none."""

    spec: Spec
    sigma: float | None

    def __call__(self, a: Floats, b: Floats) -> Floats:
        """(len(a), len(b))."""
        if self.sigma is not None:
            return _STATIONARY[self.spec.kind](a, b, self.sigma)
        if self.spec.kind == "linear":
            return np.asarray(a @ b.T)
        return (nngp if self.spec.kind == "nngp" else cnngp)(a, b, self.spec.numbers[0])

    def diagonal(self, a: Floats) -> Floats:
        """k(a, a) row by row."""
        if self.sigma is not None:
            return np.ones(len(a))
        if self.spec.kind == "cnngp":
            return np.concatenate([np.diag(cnngp(rows, rows, self.spec.numbers[0])) for rows in np.array_split(a, -(-len(a) // 32))])
        return np.asarray(np.square(a).sum(1) / (a.shape[1] / 2 if self.spec.kind == "nngp" else 1))


def kernel_of(spec: Spec, rows: Floats, sigma: float | str, seed: int = 0) -> Kernel:
    """The kernel for these training rows; `sigma` "median" is the median distance of two of them.

    Raises `ParameterError`: no images where images are needed, or a median of 0.
    """
    if spec.kind == "cnngp":
        image_side(rows.shape[1], spec)
    if spec.kind not in SCALED:
        return Kernel(spec, None)
    return Kernel(spec, median_distance(rows, seed) if isinstance(sigma, str) else float(sigma))


def median_distance(rows: Floats, seed: int = 0) -> float:
    """Of two of these rows, over at most 1,000 of them. Raises `ParameterError` where it is 0."""
    some = rows if len(rows) <= FOR_MEDIAN else np.random.default_rng(seed).choice(rows, FOR_MEDIAN, replace=False)
    found = float(np.median(pdist(some)))
    if not found > 0:
        raise ParameterError("--sigma median: more than half of all pairs of training rows are equal: give a number")
    return found


def _matern32(a: Floats, b: Floats, sigma: float) -> Floats:
    r = math.sqrt(3) * cdist(a, b) / sigma
    return np.asarray((1 + r) * np.exp(-r))


def _matern52(a: Floats, b: Floats, sigma: float) -> Floats:
    r = math.sqrt(5) * cdist(a, b) / sigma
    return np.asarray((1 + r + r**2 / 3) * np.exp(-r))


_STATIONARY: dict[str, Callable[[Floats, Floats, float], Floats]] = {
    "rbf": lambda a, b, sigma: np.asarray(np.exp(-cdist(a, b, "sqeuclidean") / (2 * sigma**2))),
    "laplace": lambda a, b, sigma: np.asarray(np.exp(-cdist(a, b, "cityblock") / sigma)),
    "matern32": _matern32,
    "matern52": _matern52,
}


def nngp(a: Floats, b: Floats, depth: int) -> Floats:
    """Covariance of the outputs of a ReLU network of `depth` hidden layers, infinitely wide."""
    found = 2 * (a @ b.T) / a.shape[1]
    left, right = (2 * np.square(rows).sum(1) / rows.shape[1] for rows in (a, b))
    for _ in range(depth):
        found = arc_cosine(found, left[:, None], right[None])
    return np.asarray(found)


def arc_cosine(cross: Floats, left: Floats, right: Floats) -> Floats:
    """2 E[relu(u) relu(v)] of normal u, v with variances `left`, `right` and covariance `cross`; it keeps variances as they are."""
    norm = np.sqrt(left * right)
    cosine = np.clip(np.divide(cross, norm, out=np.zeros_like(cross), where=norm > 0), -1, 1)
    return np.asarray(norm / np.pi * (np.sqrt(1 - cosine**2) + (np.pi - np.arccos(cosine)) * cosine))


def image_side(columns: int, spec: Spec) -> int:
    """Height and width of rows that are square images. Raises `ParameterError` for others."""
    side = math.isqrt(columns)
    if side * side != columns or side < 2:
        raise ParameterError(f"{spec}: rows of {columns} columns are no square images of one channel: take nngp or mlp")
    return side


def cnngp(a: Floats, b: Floats, depth: int) -> Floats:
    """Covariance of the outputs of a convolutional ReLU network of `depth` layers, infinitely wide, read out from all pixels."""
    side = math.isqrt(a.shape[1])
    block = max(1, ENTRIES // b.size)
    right = _mixed(np.square(b).reshape(-1, side, side), side)
    parts = [_cnngp(rows.reshape(-1, side, side), b.reshape(-1, side, side), right, depth, side) for rows in _blocks(a, block)]
    return np.concatenate(parts)


def _cnngp(a: Floats, b: Floats, right: Floats, depth: int, side: int) -> Floats:
    left, cross = _mixed(np.square(a), side), _mixed(a[:, None] * b[None], side)
    for layer in range(depth):
        cross = arc_cosine(cross, left[:, None], right[None])
        if layer < depth - 1:
            cross, left, right = _mixed(cross / 2, side), _mixed(left / 2, side), _mixed(right / 2, side)
    return np.asarray(cross.mean((-1, -2)))


def _mixed(maps: Floats, side: int) -> Floats:
    """2 / 9 times the sum over each pixel's 3 x 3 neighbours, zeros around; maps (..., side, side)."""
    wide = np.pad(maps, [(0, 0)] * (maps.ndim - 2) + [(1, 1), (1, 1)])
    rows = wide[..., :side, :] + wide[..., 1 : side + 1, :] + wide[..., 2:, :]
    return np.asarray(2 / 9 * (rows[..., :side] + rows[..., 1 : side + 1] + rows[..., 2:]))


def _blocks(rows: Floats, size: int) -> list[Floats]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
