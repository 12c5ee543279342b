"""Formulas that several measures share, each a function of singular values or eigenvalues."""

import math
from dataclasses import dataclass

import torch

NAN = math.nan


def exponential_entropy(values: torch.Tensor, epsilon: float) -> float:
    r""":math:`\exp(-\sum_k p_k \log p_k)` with :math:`p_k = v_k / \sum_j v_j + \epsilon`; NaN where all values are 0."""
    total = values.sum()
    if not total > 0:
        return NAN
    shares = values / total + epsilon
    return float(torch.exp(-torch.special.xlogy(shares, shares).sum()))


def isoscore(variances: torch.Tensor) -> float:
    r"""IsoScore of the variances along principal axes (n,): from 0 (one axis) to 1 (all alike); NaN for none or for one dimension."""
    n, length = len(variances), torch.linalg.vector_norm(variances)
    if n < 2 or not length > 0:
        return NAN
    unit = math.sqrt(n) * variances / length
    defect = float(torch.linalg.vector_norm(unit - 1)) / math.sqrt(2 * (n - math.sqrt(n)))
    return ((n - defect**2 * (n - math.sqrt(n))) ** 2 - n) / (n * (n - 1))


def share(part: torch.Tensor, whole: torch.Tensor) -> float:
    """part / whole; NaN where there is nothing."""
    return float(part / whole) if whole > 0 else NAN


@dataclass(frozen=True)
class PowerLaw:
    """lambda_j = exp(intercept) * j ** -alpha for j from `first` to `last`; `r2` is the weighted share of variance that it explains."""

    alpha: float
    intercept: float
    first: int
    last: int
    r2: float


def fit_power_law(eigenvalues: torch.Tensor, first: int, last: int) -> PowerLaw | None:
    """Through descending `eigenvalues`, 1-based indices `first` to `last`, weights 1/j; None for fewer than three that are not 0."""
    last = min(last, int((eigenvalues > 0).sum()))
    if last < first + 2:
        return None
    index = torch.arange(first, last + 1, dtype=torch.float64)
    x, y, weight = index.log(), eigenvalues[first - 1 : last].cpu().log(), 1 / index
    weight = weight / weight.sum()
    x_mean, y_mean = (weight * x).sum(), (weight * y).sum()
    slope = (weight * (x - x_mean) * (y - y_mean)).sum() / (weight * (x - x_mean).square()).sum()
    left = (weight * (y - y_mean - slope * (x - x_mean)).square()).sum()
    spread = (weight * (y - y_mean).square()).sum()
    r2 = float(1 - left / spread) if spread > 1e-24 else 1.0  # equal eigenvalues: a level line explains all there is
    return PowerLaw(-float(slope), float(y_mean - slope * x_mean), first, last, r2)
