"""Agreement of two spaces on the same samples, each measure with a 95 % interval.

Enters: rows (n, d) and (n, e), row i of both being the same sample. Leaves: `Agreement`s. Neighbours and CKA compare spaces of any two
dimensions, cosines and retrieval only spaces with common coordinates, such as relative ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from regraft.align.agreement.cka import cka_interval, linear_cka
from regraft.align.agreement.neighbors import Rows, nearest, ranks
from regraft.align.aligner import unit_rows
from regraft.errors import ParameterError

Floats = npt.NDArray[np.float64]
DRAWS = 1_000


@dataclass(frozen=True)
class Agreement:
    """One measure: its value in [0, 1] (cosine and debiased CKA can be negative), a 95 % interval, and over how many samples."""

    name: str
    value: float
    low: float
    high: float
    samples: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: an interval or a value that can't be told (too few samples) is None."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        told = {name: number if np.isfinite(number) else None for name, number in numbers.items()}
        return {"measure": self.name, **told, "samples": self.samples}


def neighbor_overlap(X: Rows, Y: Rows, k: int = 10, *, across: bool = False) -> Floats:
    """Jaccard overlap of each sample's `k` nearest others by cosine in either space, shape (n,).

    With `across`, of the `k` nearest that a row of X finds among all rows of X and among those of Y, itself and its partner included: near
    0 where the spaces have no coordinates in common (the paper's table 1).
    """
    pairs = ((X, X), (X, Y)) if across else ((X, X), (Y, Y))
    left, right = (nearest(one, pool, k, own=not across)[0] for one, pool in pairs)
    offset = np.arange(len(left))[:, None] * (len(left) + 1)
    common = np.isin(left + offset, right + offset).sum(1)
    return np.asarray(common / (2 * k - common), dtype=np.float64)


def reciprocal_ranks(X: Rows, Y: Rows) -> Floats:
    """1 / the place at which each row of X finds its partner among all rows of Y, shape (n,)."""
    return np.asarray(1 / ranks(X, Y, np.arange(len(X))), dtype=np.float64)


def cosines(X: Rows, Y: Rows) -> Floats:
    """Cosine of each row of X with its partner, shape (n,)."""
    if X.shape[1] != Y.shape[1]:
        raise ParameterError(f"{X.shape[1]} and {Y.shape[1]} dimensions can't be compared: map one space into the other first")
    return np.asarray((unit_rows(X) * unit_rows(Y)).sum(1), dtype=np.float64)


def mean_interval(values: Floats, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """95 % interval of a mean by bootstrap over samples, against the same other samples."""
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(draws)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def agree(X: Rows, Y: Rows, *, k: int = 10, draws: int = DRAWS, seed: int = 0) -> list[Agreement]:
    """Every measure that the two spaces allow.

    "jaccard@k" of neighbours; where dimensions are equal "jaccard@k across", "mrr" of partners and "cosine" with them; "cka" debiased; "cka
    biased". `k` is cut to n - 1. Raises `ParameterError`: not the same number of rows, fewer than four, NaN.
    """
    left, right = (np.asarray(one, dtype=np.float64) for one in (X, Y))
    for one in (left, right):
        if one.ndim != 2 or not np.isfinite(one).all():
            raise ParameterError(f"agreement: shape {one.shape}: give rows (n, d) without NaN or infinity")
    if len(left) != len(right):
        raise ParameterError(f"agreement: {len(left)} and {len(right)} rows: give the same samples on both sides")
    k = min(k, len(left) - 1)
    biased, debiased = (linear_cka(left, right, debiased=one) for one in (False, True))
    measures: dict[str, Callable[[Rows, Rows], Floats]] = {f"jaccard@{k}": lambda x, y: neighbor_overlap(x, y, k)}
    if left.shape[1] == right.shape[1]:
        measures |= {
            f"jaccard@{k} across": lambda x, y: neighbor_overlap(x, y, k, across=True),
            "mrr": reciprocal_ranks,
            "cosine": cosines,
        }
    found = []
    for name, measure in measures.items():
        values = measure(left, right)
        found.append(Agreement(name, float(values.mean()), *mean_interval(values, draws, seed), len(values)))
    for name, value, kind in (("cka", debiased, True), ("cka biased", biased, False)):
        found.append(Agreement(name, value, *cka_interval(left, right, value, debiased=kind, draws=draws // 2, seed=seed), len(left)))
    return found
