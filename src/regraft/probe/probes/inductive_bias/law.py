"""The law of the test error of a Gaussian predictor, and its left tail without any draw.

Enters: the covariance of predictions at the test points (t, t) and their mean's deviation from the targets (t, k). Leaves:
-ln P(e <= epsilon).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh
from scipy.optimize import brentq
from scipy.special import log_ndtr

Floats = npt.NDArray[np.float64]
How = Literal["exact", "saddlepoint"]
NEAR = 0.7  # standard deviations: the contour stays at least so far from the pole at 0
FORGOTTEN = -45.0  # logarithm of what no longer counts beside 1
CLOSE = 1e-4  # |w| below which w + ln(v/w)/w is taken at its limit


class Cumulants(NamedTuple):
    """K(u) and its first three derivatives."""

    value: float
    first: float
    second: float
    third: float


@dataclass(frozen=True)
class ErrorLaw:
    r"""The mean squared error :math:`e = f + \sum_{i,j} (\sqrt{\ell_i} z_{ij} + b_{ij})^2`, z standard normal, over t points and k outputs.

    Attributes
    ----------
    weights : (m,) :math:`\ell_i = \lambda_i / (tk) > 0`, of the covariance's eigenvalues that are not zero.
    shifts : (m,) :math:`\sum_j b_{ij}^2`, the squared deviation of the mean along each eigenvector, by tk.
    copies : k. floor : f, what no predictor can undo: the deviation where predictions do not vary at all.
    """

    weights: Floats
    shifts: Floats
    copies: int
    floor: float = 0.0

    @classmethod
    def of(cls, covariance: Floats, deviation: Floats, scale: float | None = None) -> "ErrorLaw":
        """From C (t, t) and M - Y (t, k). Eigenvalues below the rounding error of `scale` (default: the largest) are zero.

        C is made symmetric first; what is negative by rounding is zero too.
        """
        t, k = deviation.shape
        values, vectors = eigh((covariance + covariance.T) / 2)
        shifts = np.square(vectors.T @ deviation).sum(1) / (t * k)
        varies = values > np.finfo(np.float64).eps * t * (values[-1] if scale is None else scale)
        return cls(values[varies] / (t * k), shifts[varies], k, float(shifts[~varies].sum()))

    @property
    def mean(self) -> float:
        return self.floor + float(self.copies * self.weights.sum() + self.shifts.sum())

    def draw(self, samples: int, generator: np.random.Generator) -> Floats:
        """Errors (samples,) of predictors drawn at random; along one eigenvector the k outputs add up to a non-central chi-square."""
        found = np.empty(samples)
        block = max(1, 2_000_000 // max(1, len(self.weights)))
        for start in range(0, samples, block):
            size = (min(block, samples - start), len(self.weights))
            found[start : start + size[0]] = generator.noncentral_chisquare(self.copies, self.shifts / self.weights, size) @ self.weights
        return found + self.floor

    def nats(self, epsilon: float, how: How = "exact") -> float:
        """-ln P(e <= epsilon), infinite where no predictor reaches it.

        "exact": the inversion integral along the path of steepest descent, to some 10 digits. "saddlepoint": Barndorff-Nielsen's r*
        (Lugannani-Rice), one evaluation, off by 1e-5 of the figure where there are many points, by a few per cent where there is one.
        """
        above = epsilon - self.floor
        if not len(self.weights):
            return 0.0 if above >= 0 else np.inf
        if above <= 0:
            return np.inf
        u = self._saddle(above)
        return self._saddlepoint(u, above) if how == "saddlepoint" else self._contour(u, above)

    def cumulants(self, u: float) -> Cumulants:
        """Of e - f, at u < 1 / (2 max l)."""
        q = 1 - 2 * self.weights * u
        k, ratio, part = self.copies, self.weights / q, self.shifts / q**2
        return Cumulants(
            float((-0.5 * k * np.log(q) + self.shifts * u / q).sum()),
            float((k * ratio + part).sum()),
            float((2 * k * ratio**2 + 4 * part * ratio).sum()),
            float((8 * k * ratio**3 + 24 * part * ratio**2).sum()),
        )

    def _saddle(self, above: float) -> float:
        """u with K'(u) = epsilon - f."""

        def miss(u: float) -> float:
            return self.cumulants(u).first - above

        largest = 1 / (2 * self.weights.max())
        if miss(0.0) > 0:
            low = -largest
            while miss(low) > 0:
                low *= 4
            return float(brentq(miss, low, 0.0, xtol=1e-300, rtol=1e-13, maxiter=500))
        gap = 0.5
        while miss(largest * (1 - gap)) < 0:
            if gap < 1e-14:  # so far above the mean that nothing is left beyond
                return float(largest * (1 - gap))
            gap /= 4
        return float(brentq(miss, 0.0, largest * (1 - gap), xtol=1e-300, rtol=1e-13, maxiter=500))

    def _saddlepoint(self, u: float, above: float) -> float:
        at = self.cumulants(u)
        w = np.sign(u) * np.sqrt(max(2 * (u * above - at.value), 0.0))
        v = u * np.sqrt(at.second)
        star = w + (at.third / at.second**1.5 / 6 if abs(w) < CLOSE else np.log(v / w) / w)
        return -float(log_ndtr(star))

    def _contour(self, u: float, above: float) -> float:
        r"""Inversion, :math:`P(e \le \epsilon) = -\frac{1}{2\pi i} \int e^{K(s) - s\epsilon} ds / s` left of 0, its complement right of it.

        The path is the parabola through u along which the integrand does not turn, to third order; it opens to the right and meets the
        real axis only in u, so that it passes no singularity.
        """
        at = self.cumulants(u)
        width = 1 / np.sqrt(at.second)
        lower = u < NEAR * width
        vertex = min(u, -NEAR * width) if lower else u
        at = self.cumulants(vertex)
        peak, bend = at.value - vertex * above, at.third / (6 * at.second)
        x = np.arange(0, 24, 0.25)
        while (size := self._integrand(x, vertex, bend, width, above, peak)[1]).max() > 3:
            bend /= 2
        last = int(np.flatnonzero(size > FORGOTTEN).max(initial=0)) + 2
        step, before = 0.25, np.nan
        for _ in range(8):
            x = np.arange(0, min(last * 0.25, 24.0) + step / 2, step)
            part = self._integrand(x, vertex, bend, width, above, peak)[0]
            found = step * (part.sum() - part[0] / 2) / np.pi
            if abs(found - before) <= 1e-12 * abs(found):
                break
            step, before = step / 2, found
        if lower:
            return max(-(peak + float(np.log(-found))), 0.0)
        return -float(np.log1p(-min(np.exp(peak) * found, 1.0)))

    def _integrand(self, x: Floats, vertex: float, bend: float, width: float, above: float, peak: float) -> tuple[Floats, Floats]:
        """Im of the integrand by x, where y = width sinh(x) and s = vertex + bend y^2 + iy, less e^peak; and the logarithm of its size."""
        y = width * np.sinh(x)
        s = vertex + bend * y**2 + 1j * y
        exponent = -s * above - peak
        block = max(1, 1_000_000 // len(self.weights))
        for start in range(0, len(s), block):
            rows = s[start : start + block, None]
            q = 1 - 2 * self.weights * rows
            exponent[start : start + block] += (-0.5 * self.copies * np.log(q) + self.shifts * rows / q).sum(1)
        rest = (2 * bend * y + 1j) / s * width * np.cosh(x)
        size = exponent.real + np.log(np.abs(rest))
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # of a path that will be bent less
            whole = np.where(size > -700, np.exp(exponent) * rest, 0)
        return whole.imag, np.nan_to_num(size - np.log(abs(rest[0])), nan=-np.inf)
