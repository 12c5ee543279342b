"""Singular values and eigenvalues: one decomposition, taken when the first measure asks, shared by all.

Enters: moments, and the rows themselves where they are few or exactness is asked for. Leaves: a `Spectrum`.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property

import torch

from regraft.errors import ParameterError
from regraft.probe.spectrum.moments import Moments

EPSILON = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Spectrum:
    """What rows (N, K) are like, apart from a rotation.

    Attributes
    ----------
    moments : Z'Z, sums, count. known : the rows themselves in float64, from which singular values are then taken exactly; from a Gram
        matrix those below `resolution` times the largest are not known and count as 0.
    """

    moments: Moments
    known: torch.Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.moments.rows == 0:
            raise ParameterError("no rows: a spectrum needs at least one")

    @classmethod
    def of(cls, rows: torch.Tensor, *, exact: bool | None = None) -> "Spectrum":
        """Of rows (N, K) in memory; `exact` (default: where N <= K) takes singular values of the rows and not of Z'Z."""
        moments = Moments.of(rows)
        wanted = moments.rows <= moments.dim if exact is None else exact
        return cls(moments, rows.detach().to(torch.float64) if wanted else None)

    @property
    def rows(self) -> int:
        return self.moments.rows

    @property
    def dim(self) -> int:
        return self.moments.dim

    @property
    def most(self) -> int:
        """The largest rank that rows of this number and width can have."""
        return min(self.rows, self.dim)

    @property
    def resolution(self) -> float:
        """Singular values below this share of the largest are not told from 0."""
        return EPSILON * max(self.rows, self.dim) if self.known is not None else math.sqrt(EPSILON * self.dim)

    @cached_property
    def singular_values(self) -> torch.Tensor:
        """Of Z as it is, not centred, descending, (min(N, K),), float64."""
        if self.known is not None:
            values = torch.linalg.svdvals(self.known)
        else:
            values = torch.linalg.eigvalsh(self.moments.gram).clamp(min=0).sqrt().flip(0)[: self.most]
        return torch.where(values > self.resolution * values[0], values, 0.0)

    @cached_property
    def mean(self) -> torch.Tensor:
        return self.moments.total / self.rows

    @cached_property
    def covariance(self) -> torch.Tensor:
        """Centred, divisor N - 1, (K, K); zero for one row."""
        centred = self.moments.gram - self.rows * torch.outer(self.mean, self.mean)
        return centred / max(self.rows - 1, 1)

    @cached_property
    def eigenvalues(self) -> torch.Tensor:
        """Of the covariance, descending, (K,), float64; below what float64 resolves beside the mean they count as 0."""
        if self.known is not None:
            values = torch.zeros(self.dim, dtype=torch.float64, device=self.known.device)
            spread = torch.linalg.svdvals(self.known - self.mean)
            values[: len(spread)] = spread.square() / max(self.rows - 1, 1)
        else:
            values = torch.linalg.eigvalsh(self.covariance).clamp(min=0).flip(0)
        power = self.moments.gram.diagonal().sum() / self.rows  # mean squared length: the scale of rounding
        floor = EPSILON * max(self.dim, 8) * (power if self.known is None else EPSILON * self.rows * power)
        values = torch.where(values > floor, values, 0.0)
        if self.rows <= self.dim:
            values[self.rows - 1 :] = 0.0  # N points lie in N - 1 dimensions around their mean
        return values

    @cached_property
    def vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Eigenvectors of Z'Z as columns, (K, r), by descending singular values (r,), of those that are not 0."""
        if self.known is not None:
            _, values, rows = torch.linalg.svd(self.known, full_matrices=False)
            columns = rows.T
        else:
            squares, columns = torch.linalg.eigh(self.moments.gram)
            values, columns = squares.clamp(min=0).sqrt().flip(0), columns.flip(1)
        rank = int((values > self.resolution * values[0]).sum())
        return columns[:, :rank], values[:rank]


_last: list[Spectrum] = []  # of the two sets of states that were asked for last: those of rows, and those of directions


def shared(moments: Moments, known: torch.Tensor | None = None) -> Spectrum:
    """A `Spectrum`, an earlier one again where it is of the same moments: metrics of a collection then decompose once."""
    for last in _last:
        alike = (last.rows, last.dim, last.known is None) == (moments.rows, moments.dim, known is None)
        if alike and last.moments.gram.device == moments.gram.device and torch.equal(last.moments.gram, moments.gram):
            return last
    _last[:] = [Spectrum(moments, known), *_last[:1]]
    return _last[0]
