"""Numbers as vectors and as tokens.

Enters: numbers, or texts with numbers in them. Leaves: vectors whose cosine falls with distance (DICE), a text with one token for every
number beside their values (xVal), or features of a number (mantissa and exponent, waves, pieces).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regraft.errors import ParameterError

Floats = npt.NDArray[np.float64]
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w])")


@dataclass(frozen=True)
class Dice:
    r"""DICE (Sundararaman et al. 2020): :math:`\theta = \pi (x - low) / (high - low)`, :math:`v_1 = \cos\theta`,
    :math:`v_k = \sin^{k-1}\theta \cos\theta`, :math:`v_d = \sin^{d-1}\theta`, turned by a random orthonormal Q (d, d).

    In two dimensions the cosine of two numbers falls steadily with their distance; all vectors have length 1. Numbers outside are clipped.

    Raises `ParameterError`: fewer than two dimensions, an empty range.
    """

    low: float
    high: float
    dimensions: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dimensions < 2 or not self.low < self.high:
            raise ParameterError(f"DICE: {self.dimensions} dimensions from {self.low} to {self.high}: at least 2, and low < high")

    def __call__(self, numbers: npt.ArrayLike) -> Floats:
        """Vectors (n, d)."""
        given = np.clip(np.asarray(numbers, dtype=np.float64).ravel(), self.low, self.high)
        theta = np.pi * (given - self.low) / (self.high - self.low)
        powers = np.sin(theta)[:, None] ** np.arange(self.dimensions)
        powers[:, :-1] *= np.cos(theta)[:, None]
        turn = np.linalg.qr(np.random.default_rng(self.seed).normal(size=(self.dimensions, self.dimensions)))[0]
        return np.asarray(powers @ turn.T)


def number_tokens(text: str, token: str = "[NUM]") -> tuple[str, list[float]]:
    """The text with `token` for each number, and the numbers in their order: xVal (Golkar et al. 2023, arXiv 2310.02989) scales by them.

    The embedding of the token is multiplied by the number where it stands: `scale_numbers`.
    """
    found = [float(one.group().replace(",", "")) for one in NUMBER.finditer(text)]
    return NUMBER.sub(token, text), found


def scale_numbers(embedded: Floats, ids: npt.ArrayLike, token_id: int, numbers: Sequence[float]) -> Floats:
    """`embedded` (T, d) with the rows of `token_id` multiplied by `numbers`. Raises `ParameterError`: not as many of them as numbers."""
    at = np.flatnonzero(np.asarray(ids) == token_id)
    if len(at) != len(numbers):
        raise ParameterError(f"xVal: {len(at)} number tokens for {len(numbers)} numbers")
    scaled = embedded.copy()
    scaled[at] *= np.asarray(numbers, dtype=np.float64)[:, None]
    return scaled


def scientific(number: float, digits: int = 3) -> list[str]:
    """Sign, mantissa's digits and exponent as tokens: 0.00512 -> ["+", "5", "1", "2", "E-3"]."""
    mantissa, exponent = f"{abs(number):.{digits - 1}e}".split("e")
    return ["-" if number < 0 else "+", *mantissa.replace(".", ""), f"E{int(exponent)}"]


def waves(numbers: npt.ArrayLike, frequencies: npt.ArrayLike) -> Floats:
    """Sines and cosines of the numbers at each frequency (Gorishniy et al. 2022, arXiv 2203.05556, section 3.3): (n, 2 k)."""
    angles = 2 * np.pi * np.outer(np.asarray(numbers, dtype=np.float64), np.asarray(frequencies, dtype=np.float64))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def pieces(numbers: npt.ArrayLike, borders: npt.ArrayLike) -> Floats:
    """How far each of the bins between `borders` is filled, from 0 to 1 (section 3.2): (n, borders - 1). Borders rise."""
    edges = np.asarray(borders, dtype=np.float64)
    if len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ParameterError("pieces: borders must rise, and be at least two")
    filled = (np.asarray(numbers, dtype=np.float64)[:, None] - edges[:-1]) / np.diff(edges)
    return np.clip(filled, 0, 1)
