"""Hypothesis spaces that have seen the training data: what is asked of them is how unlikely a test error is.

Enters: a task and a method's settings. Leaves: nats for an epsilon, an interval, errors drawn from the space.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from regraft.probe.probes.inductive_bias.fit import Fitted, fit_as_released, fit_errors, neighbours, refit
from regraft.probe.probes.inductive_bias.kernels import Kernel
from regraft.probe.probes.inductive_bias.networks import Trained
from regraft.probe.probes.inductive_bias.posterior import Posterior
from regraft.probe.probes.inductive_bias.result import Bias

Floats = npt.NDArray[np.float64]
Tail = Literal["exact", "saddlepoint", "paper", "released"]
FEWEST_POINTS = 16  # test points below which halves of them say nothing
ENOUGH_NETWORKS = 30
FIXED = 1000  # where the error to reach hangs on variances of fewer jitters, ten times the jitter changes the figure by half


@dataclass(frozen=True, kw_only=True)
class Space(ABC):
    """What both kinds share. `draws`: of intervals. `seed`: of everything drawn."""

    label: str
    tail: Tail
    n: int
    t: int
    k: int
    draws: int
    seed: int
    notes: tuple[str, ...] = ()

    @property
    @abstractmethod
    def errors(self) -> Floats:
        """Test errors (S,) of predictors drawn from the space."""

    @property
    @abstractmethod
    def mean_error(self) -> float: ...

    @property
    @abstractmethod
    def predictor_error(self) -> float: ...

    @property
    def kernel(self) -> Kernel | None:
        return None

    @property
    def jitter(self) -> float | None:
        return None

    @cached_property
    def fitted(self) -> Fitted:
        return (fit_as_released if self.tail == "released" else fit_errors)(self.errors)

    def nats(self, epsilon: float) -> float:
        return max(0.0, self.fitted.nats(epsilon, released=self.tail == "released"))

    def interval(self, epsilon: float, by_point: Floats | None = None) -> tuple[float, float] | None:
        """95 % by drawing the S errors again and fitting each time; plain refits of the released way take minutes, so it has none.

        Above some hundreds, errors are drawn in groups of neighbours, each by its mean.
        """
        if self.tail == "released" or not self.draws:
            return None
        generator = np.random.default_rng(self.seed)
        groups = neighbours(self.errors, 200)
        found = []
        for _ in range(self.draws):
            counts = np.bincount(generator.integers(len(groups), size=len(groups)), minlength=len(groups))
            found.append(refit(self.fitted, groups, counts.astype(np.float64)).nats(epsilon))
        return _ends(np.array(found))

    def comments(self, epsilon: float) -> tuple[str, ...]:
        """What should be known of the figure at `epsilon`."""
        return ()

    def measure(self, epsilon: float, by_point: Floats | None = None) -> Bias:
        """The bias at `epsilon`; `by_point` (t,) are the errors that a model's epsilon is the mean of."""
        nats, least = self.nats(epsilon), float(self.errors.min())
        notes = (*self.notes, *self.comments(epsilon))
        in_range = bool(least <= epsilon)
        if not np.isfinite(nats):
            notes = (*notes, "no predictor of the space reaches this error")
        return Bias(
            epsilon=float(epsilon),
            nats=nats,
            interval=self.interval(epsilon, by_point) if np.isfinite(nats) else None,
            space=self.label,
            sigma=None if self.kernel is None else self.kernel.sigma,
            jitter=self.jitter,
            n=self.n,
            t=self.t,
            k=self.k,
            mean_error=self.mean_error,
            least_error=least,
            predictor_error=self.predictor_error,
            in_range=in_range,
            samples=len(self.errors),
            tail=self.tail,
            notes=notes,
        )


@dataclass(frozen=True, kw_only=True)
class GaussianSpace(Space):
    """Path A: the Gaussian process of a kernel, conditioned on the training rows."""

    posterior: Posterior
    own_kernel: Kernel
    samples: int

    @property
    def kernel(self) -> Kernel:
        return self.own_kernel

    @property
    def jitter(self) -> float:
        return self.posterior.jitter

    @cached_property
    def errors(self) -> Floats:
        return self.posterior.law.draw(self.samples, np.random.default_rng(self.seed))

    @property
    def mean_error(self) -> float:
        return self.posterior.law.mean

    def comments(self, epsilon: float) -> tuple[str, ...]:
        """Said where `epsilon` is reached only by moving predictions that the training rows have fixed to within the jitter."""
        law = self.posterior.law
        fixed = law.weights * self.t * self.k < FIXED * self.jitter
        if float(law.shifts[fixed].sum()) + law.floor <= epsilon:
            return ()
        return (
            f"epsilon {epsilon:.4g}: the kernel is too smooth for this task: its predictors hardly vary where they would have to, and the "
            "figure depends on the jitter; take a smaller sigma, or matern32 or laplace",
        )

    @property
    def predictor_error(self) -> float:
        return float(self.posterior.errors.mean())

    def nats(self, epsilon: float) -> float:
        if self.tail in ("paper", "released"):
            return super().nats(epsilon)
        return self.posterior.law.nats(epsilon, "exact" if self.tail == "exact" else "saddlepoint")

    def interval(self, epsilon: float, by_point: Floats | None = None) -> tuple[float, float] | None:
        """Of the exact tail: 95 % over test points, by halves of them drawn without repetition.

        Drawing with repetition would count a point twice as two points that agree for certain, and lower the figure. The bias by test
        point of a half varies about as that of the whole would over new test sets; its differences from the halves' mean are put around
        the figure.
        Where epsilon is a model's error, each half has the model's error on its own points.
        """
        if self.tail in ("paper", "released"):
            return super().interval(epsilon)
        if self.t < FEWEST_POINTS or not self.draws:
            return None
        generator, half = np.random.default_rng(self.seed), self.t // 2
        rates = []
        for _ in range(self.draws if self.t <= 600 else min(self.draws, 40)):
            points = generator.permutation(self.t)[:half]
            asked = epsilon if by_point is None else float(by_point[points].mean())
            rates.append(self.posterior.law_of(points).nats(asked, "saddlepoint") / half)
        found = np.array(rates)
        if not np.isfinite(found).all():
            return None
        return _ends(self.nats(epsilon) + (found - found.mean()) * self.t)


@dataclass(frozen=True, kw_only=True)
class NetworkSpace(Space):
    """Path B: networks as training leaves them. It has no exact tail: errors are fitted as the paper fits them."""

    trained: Trained

    @cached_property
    def errors(self) -> Floats:
        return np.asarray(self.trained.errors.mean(1))

    @property
    def mean_error(self) -> float:
        return float(self.errors.mean())

    @property
    def predictor_error(self) -> float:
        return float(np.median(self.errors))


def _ends(found: Floats) -> tuple[float, float] | None:
    if not np.isfinite(found).all():
        return None
    low, high = np.quantile(found, [0.025, 0.975]).clip(0).tolist()
    return float(low), float(high)
