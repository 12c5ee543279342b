"""Gaussian predictors that fit the training data: mean and covariance at the test points.

Enters: a kernel, a task. Leaves: M (t, k), C (t, t) and the law of the test error. Up to 10,000 training rows by Cholesky, beyond that by
conjugate gradients over blocks of the kernel, which is then never held.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from regraft.errors import ParameterError
from regraft.probe.probes.inductive_bias.kernels import Kernel
from regraft.probe.probes.inductive_bias.law import ErrorLaw
from regraft.probe.probes.inductive_bias.task import Task
from regraft.progress import progress_bar

Floats = npt.NDArray[np.float64]
MOST_CHOLESKY = 10_000
BLOCK = 2048
STEPS, TOLERANCE = 2000, 1e-8


@dataclass(frozen=True)
class Posterior:
    """M (t, k) and C (t, t) beside the targets (t, k).

    `prior` is the largest variance before training, `jitter` was added to K's diagonal.
    """

    mean: Floats
    covariance: Floats
    targets: Floats
    prior: float
    jitter: float
    notes: tuple[str, ...] = ()

    @cached_property
    def law(self) -> ErrorLaw:
        return ErrorLaw.of(self.covariance, self.mean - self.targets, self.prior)

    def law_of(self, points: npt.NDArray[np.int64]) -> ErrorLaw:
        """The law of the error over some of the test points."""
        return ErrorLaw.of(self.covariance[np.ix_(points, points)], (self.mean - self.targets)[points], self.prior)

    @property
    def errors(self) -> Floats:
        """Squared error of the mean predictor by test point (t,), averaged over outputs."""
        return np.asarray(np.square(self.mean - self.targets).mean(1))


def condition(kernel: Kernel, task: Task, jitter: float = 1e-8, most_cholesky: int = MOST_CHOLESKY) -> Posterior:
    """The posterior on interpolating the training rows; `jitter` by the mean of K's diagonal is added to it, ten times as much until it
    factors. Raises `ParameterError` where it never does."""
    X, T = task.X_train, task.X_test
    diagonal = kernel.diagonal(X)
    if not diagonal.max() > 0:
        raise ParameterError(f"{task.name}: the kernel {kernel.spec} is 0 on all training rows: take another one, or scale the columns")
    before = kernel(T, T)
    prior = float(np.diag(before).max())
    cross = kernel(T, X)
    right = np.concatenate([task.Y_train, cross.T], 1)
    notes: tuple[str, ...] = ()
    if len(X) <= most_cholesky:
        solved, added = _by_cholesky(kernel(X, X), right, jitter * diagonal.mean())
        if added > 1.5 * jitter * diagonal.mean():
            notes = (f"the kernel's matrix is nearly singular: {added:.1e} was added to its diagonal",)
    else:
        added = jitter * float(diagonal.mean())
        solved, left = _by_gradients(kernel, X, right, diagonal + added, added)
        if left > TOLERANCE * 10:
            notes = (f"conjugate gradients stopped with a relative residual of {left:.1e} after {STEPS} steps: figures are approximate",)
    k = task.Y_train.shape[1]
    covariance = before - cross @ solved[:, k:]
    return Posterior(cross @ solved[:, :k], (covariance + covariance.T) / 2, task.Y_test, prior, added, notes)


def _by_cholesky(gram: Floats, right: Floats, jitter: float) -> tuple[Floats, float]:
    diagonal = gram.diagonal().copy()
    while True:
        gram[np.diag_indices_from(gram)] = diagonal + jitter
        try:
            factor = cho_factor(gram, lower=True)
        except np.linalg.LinAlgError:
            jitter *= 10
            if jitter > diagonal.mean():
                raise ParameterError("the kernel's matrix of the training rows cannot be factored: take another kernel or sigma") from None
            continue
        return np.asarray(cho_solve(factor, right)), float(jitter)


def _by_gradients(kernel: Kernel, X: Floats, right: Floats, diagonal: Floats, jitter: float) -> tuple[Floats, float]:
    """(K + jitter I)^-1 `right` for all columns at once, preconditioned by the diagonal; also the largest relative residual."""
    found, residual = np.zeros_like(right), right.copy()
    scaled = residual / diagonal[:, None]
    direction, size = scaled.copy(), (residual * scaled).sum(0)
    whole = np.linalg.norm(right, axis=0).clip(1e-300)
    left = 1.0
    with progress_bar("solving by conjugate gradients", total=STEPS, unit="steps") as bar:
        for _ in range(STEPS):
            moved = jitter * direction
            for start in range(0, len(X), BLOCK):
                moved[start : start + BLOCK] += kernel(X[start : start + BLOCK], X) @ direction
            length = size / (direction * moved).sum(0).clip(1e-300)
            found += length * direction
            residual -= length * moved
            left = float((np.linalg.norm(residual, axis=0) / whole).max())
            bar.advance()
            bar.say(f"residual {left:.1e}")
            if left < TOLERANCE:
                break
            scaled = residual / diagonal[:, None]
            fresh = (residual * scaled).sum(0)
            direction, size = scaled + fresh / size.clip(1e-300) * direction, fresh
    return found, left
