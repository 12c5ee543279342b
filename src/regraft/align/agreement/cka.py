"""Linear CKA of two spaces, biased and debiased, in O(n d e): no n x n matrix for the value.

Enters: rows (n, d) and (n, e) of the same samples. Leaves: the value and an interval. The biased estimate of unrelated spaces is far above
0 where samples are few (Kornblith et al. 2019; Nguyen et al. 2021 for the debiased one, by the U-statistic of Song et al. 2012).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from regraft.errors import ParameterError

Rows = npt.NDArray[np.floating[Any]]
CAP = 2_000  # rows whose kernels give the interval
LEAST = 4  # samples that the U-statistic needs


def linear_cka(X: Rows, Y: Rows, *, debiased: bool = True) -> float:
    r""":math:`\mathrm{HSIC}(K, L) / \sqrt{\mathrm{HSIC}(K, K)\,\mathrm{HSIC}(L, L)}` of the kernels :math:`X X^\top` and :math:`Y Y^\top`.

    In [0, 1] biased; debiased it can be slightly negative. Raises `ParameterError`: fewer than four rows, rows that are all alike.
    """
    left, right = _checked(X, Y)
    measure = _debiased if debiased else _biased
    return _ratio(measure(left, right), measure(left, left), measure(right, right))


def cka_interval(X: Rows, Y: Rows, value: float, *, debiased: bool = True, draws: int = 500, seed: int = 0) -> tuple[float, float]:
    """95 % interval around `value`, from halves of the rows drawn without replacement.

    A half without replacement varies about the whole as a bootstrap sample does, and has no copies, which a U-statistic would take for
    similar samples. More than 2,000 rows: halves of 2,000 of them, and deviations scaled by the root of the share.
    """
    left, right = _checked(X, Y)
    rng = np.random.default_rng(seed)
    n = min(len(left), CAP)
    if n // 2 < LEAST:
        return float("nan"), float("nan")
    kept = np.sort(rng.permutation(len(left))[:n])
    K, L = (one[kept] @ one[kept].T for one in (left, right))
    picked = np.zeros((n, draws))
    picked[np.argsort(rng.random((n, draws)), axis=0)[: n // 2], np.arange(draws)] = 1
    found = _of_halves(K, L, picked, debiased)
    found = found[np.isfinite(found)]
    if not len(found):
        return float("nan"), float("nan")
    spread = np.sqrt(n / len(left)) * (np.quantile(found, [0.025, 0.975]) - np.median(found))
    return float(value + spread[0]), float(value + spread[1])


def _checked(X: Rows, Y: Rows) -> tuple[Rows, Rows]:
    left, right = (np.asarray(one, dtype=np.float64) for one in (X, Y))
    if len(left) != len(right) or len(left) < LEAST:
        raise ParameterError(f"CKA of {len(left)} and {len(right)} rows: give at least {LEAST} rows, the same samples on both sides")
    left, right = left - left.mean(0), right - right.mean(0)  # both estimates are the same after this, and rounding is less
    scale = [np.sqrt((one**2).sum() / len(one)) for one in (left, right)]
    if min(scale) == 0:
        raise ParameterError("CKA: the rows of one space are all alike: give rows that differ")
    return left / scale[0], right / scale[1]


def _biased(left: Rows, right: Rows) -> float:
    return float(((left.T @ right) ** 2).sum())


def _debiased(left: Rows, right: Rows) -> float:
    n = len(left)
    k, m = (left**2).sum(1), (right**2).sum(1)  # the diagonals, which are left out
    rows_k, rows_m = left @ left.sum(0) - k, right @ right.sum(0) - m
    trace = ((left.T @ right) ** 2).sum() - (k * m).sum()
    return float(trace + rows_k.sum() * rows_m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (rows_k * rows_m).sum())


def _ratio(cross: float, left: float, right: float) -> float:
    return cross / np.sqrt(left * right) if left > 0 and right > 0 else float("nan")


def _of_halves(K: Rows, L: Rows, picked: Rows, debiased: bool) -> Rows:
    """The value of each half, a column of zeros and ones in `picked` (n, draws)."""
    n = picked.sum(0)
    if debiased:
        for kernel in (K, L):
            np.fill_diagonal(kernel, 0)

    def over(one: Rows, other: Rows) -> Rows:
        trace = (picked * ((one * other) @ picked)).sum(0)
        rows_one, rows_other = one @ picked, other @ picked
        both = (picked * rows_one * rows_other).sum(0)
        totals = (picked * rows_one).sum(0) * (picked * rows_other).sum(0)
        if debiased:
            return np.asarray(trace + totals / ((n - 1) * (n - 2)) - 2 / (n - 2) * both)
        return np.asarray(trace + totals / n**2 - 2 / n * both)  # centred anew in each half

    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(over(K, L) / np.sqrt(over(K, K) * over(L, L)))
