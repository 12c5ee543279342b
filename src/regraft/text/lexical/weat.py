"""WEAT: do two sets of words lean towards two sets of attributes, more than chance would have it?

Enters: vectors of words (of sentences for SEAT), four lists. Leaves: effect size, p-value by permutation, the words that were lost.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regraft.errors import ParameterError

EXACT = 100_000  # most splits that are all tried
Table = Mapping[str, npt.ArrayLike]


@dataclass(frozen=True)
class Association:
    """`effect` in standard deviations, from -2 to 2; `p` one-sided: share of splits with a larger statistic; `exact`: all were tried.

    `lost` : words without a vector, and those left out so that both sets are of one size.
    """

    effect: float
    p: float
    exact: bool
    lost: tuple[str, ...]


def weat(table: Table, X: Sequence[str], Y: Sequence[str], A: Sequence[str], B: Sequence[str], *, seed: int = 0) -> Association:
    r"""Caliskan et al. 2017 (doi 10.1126/science.aal4230), equations of the supplement.

    :math:`s(w) = \mathrm{mean}_a \cos(w, a) - \mathrm{mean}_b \cos(w, b)`; the effect is
    :math:`(\mathrm{mean}_X s - \mathrm{mean}_Y s) / \mathrm{std}_{X \cup Y} s` with ddof 1.

    Raises `ParameterError`: fewer than two target words or no attribute with a vector on a side, a zero vector, all words leaning alike.
    """
    lists = {"X": X, "Y": Y, "A": A, "B": B}
    known = {name: [word for word in words if word in table] for name, words in lists.items()}
    size = min(len(known["X"]), len(known["Y"]))
    lost = [word for words in lists.values() for word in words if word not in table]
    lost += known["X"][size:] + known["Y"][size:]
    if size < 2 or not known["A"] or not known["B"]:
        raise ParameterError(f"WEAT: {size} target words a side, {len(known['A'])} and {len(known['B'])} attributes: too few with a vector")
    a, b = _unit(table, known["A"]), _unit(table, known["B"])
    targets = _unit(table, known["X"][:size] + known["Y"][:size])
    leaning = (targets @ a.T).mean(1) - (targets @ b.T).mean(1)
    spread = leaning.std(ddof=1)
    if not spread > 1e-12:
        raise ParameterError("WEAT: all target words lean alike, so there is no effect to measure")
    effect = (leaning[:size].mean() - leaning[size:].mean()) / spread
    exact = math.comb(2 * size, size) <= EXACT
    sums = _all_sums(leaning, size) if exact else _drawn_sums(leaning, size, seed)
    return Association(float(effect), float((sums > leaning[:size].sum() + 1e-12).mean()), exact, tuple(lost))


def _unit(table: Table, words: Sequence[str]) -> npt.NDArray[np.float64]:
    rows = np.stack([np.asarray(table[word], dtype=np.float64) for word in words])
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise ParameterError(f"WEAT: the vector of '{words[int(lengths.argmin())]}' is zero")
    return np.asarray(rows / lengths)


def _all_sums(leaning: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    chosen = np.array(list(itertools.combinations(range(2 * size), size)))
    return np.asarray(leaning[chosen].sum(1))


def _drawn_sums(leaning: npt.NDArray[np.float64], size: int, seed: int) -> npt.NDArray[np.float64]:
    order = np.random.default_rng(seed).permuted(np.tile(leaning, (EXACT, 1)), axis=1)
    return np.asarray(order[:, :size].sum(1))
