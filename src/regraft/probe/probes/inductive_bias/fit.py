"""The paper's tail: one scaled non-central chi-square fitted to sampled errors, and Sankaran's approximation where it underflows.

Enters: errors (S,) of predictors drawn from the hypothesis space. Leaves: -ln F(epsilon) of the fitted law.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import digamma, ive, log_ndtr, polygamma
from scipy.stats import gamma, ncx2

from regraft.errors import ParameterError

Floats = npt.NDArray[np.float64]
UNDERFLOWS = 1e-290
GROUPS = 500
DEBYE = 30


@dataclass(frozen=True)
class Fitted:
    """e = scale * chi-square(df, nc); nc = 0 is a gamma law of shape df / 2 and scale 2 * scale."""

    df: float
    nc: float
    scale: float

    def nats(self, epsilon: float, *, released: bool = False) -> float:
        """-ln F(epsilon); `released`: z^2 / 2 where F underflows, as the authors' code has it, instead of -ln Phi(z)."""
        x = epsilon / self.scale
        with np.errstate(all="ignore"):
            share = float(ncx2.cdf(x, self.df, self.nc) if self.nc > 0 else gamma.cdf(x, self.df / 2, scale=2))
        if share > UNDERFLOWS:
            return -float(np.log(share))
        z = sankaran(x, self.df, self.nc)
        return z * z / 2 if released else -float(log_ndtr(z))


def sankaran(x: float, df: float, nc: float) -> float:
    """z such that P(chi-square(df, nc) <= x) is nearly Phi(z)."""
    h = 1 - 2 / 3 * (df + nc) * (df + 3 * nc) / (df + 2 * nc) ** 2
    p = (df + 2 * nc) / (df + nc) ** 2
    m = (h - 1) * (1 - 3 * h)
    mean = 1 + h * p * (h - 1 - 0.5 * (2 - h) * m * p)
    return float(((x / (df + nc)) ** h - mean) / (h * np.sqrt(2 * p) * (1 + 0.5 * m * p)))


def fit_errors(errors: Floats) -> Fitted:
    """Maximum likelihood in the logarithms of (scale, df, nc), bounded, from the moments on; a gamma law where nc adds nothing.

    Raises `ParameterError` where the errors do not vary.
    """
    check_spread(errors)
    start = np.log(moments(errors))
    errors = neighbours(errors, GROUPS)
    found, cost = _search(errors, np.ones(len(errors)), start, 400)
    shape, _, doubled = gamma.fit(errors, floc=0)
    plain = -float(gamma.logpdf(errors, shape, scale=doubled).mean())
    return found if cost < plain - 1e-9 and found.nc > 1e-6 * found.df else Fitted(2 * shape, 0.0, doubled / 2)


def neighbours(errors: Floats, groups: int) -> Floats:
    """Where there are more than `groups` errors: means of neighbours, which a likelihood hardly tells from the errors."""
    if len(errors) <= groups:
        return errors
    return np.array([part.mean() for part in np.array_split(np.sort(errors), groups)])


def refit(fitted: Fitted, errors: Floats, counts: Floats) -> Fitted:
    """The same law for errors that occur `counts` times, searched for from `fitted` on."""
    if fitted.nc == 0:
        mean = float(np.average(errors, weights=counts))
        lag = np.log(mean) - float(
            np.average(np.log(errors), weights=counts)
        )  # ln a - digamma(a) = lag, solved by Minka's start and Newton
        shape = (3 - lag + np.sqrt((lag - 3) ** 2 + 24 * lag)) / (12 * lag)
        for _ in range(4):
            shape -= (np.log(shape) - digamma(shape) - lag) / (1 / shape - polygamma(1, shape))
        return Fitted(float(2 * shape), 0.0, float(mean / shape / 2))
    return _search(errors, counts, np.log([fitted.scale, fitted.df, fitted.nc]), 120)[0]


def _search(errors: Floats, counts: Floats, start: Floats, steps: int) -> tuple[Fitted, float]:
    def cost(given: Floats) -> float:
        scale, df, nc = np.exp(given)
        with np.errstate(all="ignore"):
            found = -float(np.average(log_density(errors / scale, df, nc) - np.log(scale), weights=counts))
        return found if np.isfinite(found) else 1e6 + float(np.square(given - start).sum())

    bounds = [(one - 3, one + 3) for one in start]
    found = minimize(cost, start, method="Nelder-Mead", bounds=bounds, options={"maxiter": steps, "xatol": 1e-4, "fatol": 1e-9})
    scale, df, nc = np.exp(found.x).tolist()
    return Fitted(df, nc, scale), float(found.fun)


def log_density(x: Floats, df: float, nc: float) -> Floats:
    """Of a non-central chi-square. From order 30 on the Bessel function is Debye's uniform expansion, which does not underflow."""
    order, root = df / 2 - 1, np.sqrt(nc * x)
    if order < DEBYE:
        bessel = np.log(ive(order, root)) + root
    else:
        z = root / order
        hypotenuse = np.sqrt(1 + z**2)
        t = 1 / hypotenuse
        first, second = (3 * t - 5 * t**3) / 24, (81 * t**2 - 462 * t**4 + 385 * t**6) / 1152
        bessel = order * (hypotenuse + np.log(z / (1 + hypotenuse))) - 0.5 * np.log(2 * np.pi * order * hypotenuse)
        bessel += np.log1p(first / order + second / order**2)
    return np.asarray(-np.log(2) - (x + nc) / 2 + order / 2 * np.log(x / nc) + bessel)


def moments(errors: Floats) -> Floats:
    """(scale, df, nc) with the mean, variance and, as far as such a law can have it, the skewness of the errors."""
    mean, variance = errors.mean(), errors.var()
    third = np.mean((errors - mean) ** 3)
    # scale solves mean s^2 - variance s + third / 8 = 0; df > 0 asks that s > variance / (4 mean), nc >= 0 that s <= variance / (2 mean)
    inside = np.clip(1 - mean * third / (2 * variance**2), 1e-4, 0.24)
    scale = variance / (2 * mean) * (1 - np.sqrt(inside))
    return np.array([scale, 2 * mean / scale - variance / (2 * scale**2), variance / (2 * scale**2) - mean / scale])


def fit_as_released(errors: Floats) -> Fitted:
    """Plain `ncx2.fit(errors, floc=0)`, for comparison: it often stops far off, at nc near 0 and df of 1 to 3."""
    check_spread(errors)
    with np.errstate(all="ignore"):
        df, nc, _, scale = ncx2.fit(errors, floc=0)
    return Fitted(float(df), float(nc), float(scale))


def check_spread(errors: Floats) -> None:
    """Raise `ParameterError` where no law can be fitted."""
    if len(errors) < 3 or not np.isfinite(errors).all() or errors.std() <= 1e-12 * errors.mean():
        raise ParameterError(
            f"{len(errors)} sampled errors that do not vary: the paper's tail cannot be fitted: take more, or --tail exact"
        )
