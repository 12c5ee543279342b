"""Exact inductive bias: how unlikely a test error is among all predictors that fit the training data."""

from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from regraft.comparison import Kept
from regraft.errors import ParameterError
from regraft.method import Method, Paper
from regraft.probe.probe import Probe
from regraft.probe.probes.inductive_bias.kernels import kernel_of
from regraft.probe.probes.inductive_bias.networks import Training, sample_networks
from regraft.probe.probes.inductive_bias.posterior import condition
from regraft.probe.probes.inductive_bias.result import Bias
from regraft.probe.probes.inductive_bias.spaces import ENOUGH_NETWORKS, GaussianSpace, NetworkSpace, Space, Tail
from regraft.probe.probes.inductive_bias.specs import NETWORKS, Spec, parse_space
from regraft.probe.probes.inductive_bias.task import Task

PAPER_SAMPLES, SHOWN_SAMPLES, NETWORK_SAMPLES = 10_000, 2_000, 100


class InductiveBias(Probe, Method):
    r"""Nats of prior knowledge that a task asks for: :math:`I(\epsilon) = -\ln P_{h \sim p_h}(e(h) \le \epsilon)`.

    :math:`p_h` is a hypothesis space conditioned on the training data, e(h) the squared error averaged over test points and outputs
    (classes are one-hot 0 and 1). The bias of a model class is I at the error that it reaches; that reading of the paper is inferred. I
    falls with epsilon and with training rows, and depends on the space: both are always shown.

    Path A, a kernel: predictors are Gaussian with mean :math:`M = K_{TX} K_{XX}^{-1} Y` and covariance
    :math:`C = K_{TT} - K_{TX} K_{XX}^{-1} K_{XT}`, the same for each output. The error is a weighted sum of non-central chi-squares with
    :math:`K(u) = \sum_{ij} [-\frac{1}{2} \ln(1 - 2 \ell_i u) + b_{ij}^2 u / (1 - 2 \ell_i u)]`, :math:`\ell_i = \lambda_i / tk`.
    Path B, a network: S of them are trained from independent weights and orders of the data, and their errors fitted.

    Parameters
    ----------
    space : rbf, laplace, matern32, matern52, linear, nngp:DEPTH, cnngp:DEPTH (infinite ReLU networks), mlp:WIDTH,..., cnn:WIDTH,...
    sigma : of rbf, laplace, matern32, matern52, on inputs as given (1, as the authors' code), or "median": of training distances.
    tail : "exact" inverts K along the path of steepest descent; "saddlepoint" is r* of Lugannani and Rice; "paper" fits one scaled
        non-central chi-square to drawn errors; "released" fits by plain `ncx2.fit` and takes z^2 / 2, as the authors' code. Networks have
        the last two only: with the first two they take "paper".
    samples : S; none: 10,000 of the paper for its tail, 2,000 to show beside an exact one, 100 networks.
    jitter : added to K's diagonal, by its mean; ten times as much until it factors.
    interpolation : networks with a larger training error are left out of the space; none keeps all (that the paper demands a fit of the
        training data is stated, at which error is not).
    epochs, lr, batch : of networks; Adam on squared error, 1e-3 as in the authors' code.
    draws : of intervals, 0 for none. seed : of everything random.

    Returns a `Bias`, whose `measurement` is in nats and never below 0. Raises `ParameterError` for an epsilon that is not above 0.
    """

    paper = Paper("Towards Exact Computation of Inductive Bias", "Boopathy et al.", 2024, "2406.15941")
    summary = "prior knowledge that a task asks for to reach a test error, in nats"
    needs = ("task",)

    space: str = "rbf"
    sigma: Annotated[float, Field(gt=0)] | Literal["median"] = 1.0
    tail: Tail = "exact"
    samples: Annotated[int, Field(ge=3)] | None = None
    jitter: Annotated[float, Field(gt=0, lt=1)] = 1e-8
    interpolation: Annotated[float, Field(gt=0)] | None = None
    epochs: Annotated[int, Field(ge=1)] = 100
    lr: Annotated[float, Field(gt=0)] = 1e-3
    batch: Annotated[int, Field(ge=1)] = 32
    draws: Annotated[int, Field(ge=0)] = 200
    seed: Annotated[int, Field(ge=0)] = 0

    def measure(self, X_train: Any, Y_train: Any, X_test: Any, Y_test: Any, *, epsilon: float | None = None, model: Any = None) -> Bias:
        """Bias at `epsilon`, or at the error of a fitted `model` (``predict_proba`` or ``predict``), with `.measurement` as every probe.

        X (n, d), Y (n,) labels or (n, k) numbers. Raises `ParameterError` for wrong rows, targets, settings or epsilon.
        """
        task = Task.of(X_train, Y_train, X_test, Y_test)
        if (epsilon is None) == (model is None):
            raise ParameterError("give epsilon, a number, or model, whose error is taken: one of the two")
        by_point = None if model is None else errors_of(model, task)
        asked = check_epsilon(float(by_point.mean()) if by_point is not None else epsilon)
        return self.open(task).measure(asked, by_point)

    def open(self, task: Task, kept: Kept | None = None) -> Space:
        """The space, conditioned on the task's training rows; networks found in `kept` are not trained again."""
        spec = parse_space(self.space)
        shared = {"n": task.n, "t": len(task.X_test), "k": task.Y_test.shape[1], "draws": self.draws, "seed": self.seed}
        if spec.kind in NETWORKS:
            return self._networks(spec, task, kept, shared)
        kernel = kernel_of(spec, task.X_train, self.sigma, self.seed)
        posterior = condition(kernel, task, self.jitter)
        few = SHOWN_SAMPLES if self.tail in ("exact", "saddlepoint") else PAPER_SAMPLES
        return GaussianSpace(
            label=str(spec),
            tail=self.tail,
            notes=(*task.notes, *posterior.notes),
            posterior=posterior,
            own_kernel=kernel,
            samples=self.samples or few,
            **shared,
        )

    def _networks(self, spec: Spec, task: Task, kept: Kept | None, shared: dict[str, int]) -> NetworkSpace:
        count = self.samples or NETWORK_SAMPLES
        seeds = range(self.seed * 1_000_000, self.seed * 1_000_000 + count)
        trained = sample_networks(spec, task, seeds, Training(self.epochs, self.lr, self.batch), kept)
        fits = trained.training <= (np.inf if self.interpolation is None else self.interpolation)
        notes = [*task.notes, f"{count} networks, mean training error {trained.training.mean():.2g}"]
        if not fits.all():
            notes.append(f"{int(count - fits.sum())} of them fit the training rows worse than {self.interpolation:g} and are left out")
        if fits.sum() < 3:
            raise ParameterError(
                f"{spec}: {int(fits.sum())} networks fit the training rows within {self.interpolation}: train longer (--epochs)"
            )
        if fits.sum() < ENOUGH_NETWORKS:
            notes.append(f"{int(fits.sum())} networks are too few for a tail: take {NETWORK_SAMPLES}")
        tail: Tail = "released" if self.tail == "released" else "paper"
        trained = type(trained)(trained.errors[fits], trained.training[fits])
        return NetworkSpace(label=str(spec), tail=tail, notes=tuple(notes), trained=trained, **shared)


def check_epsilon(epsilon: float | None) -> float:
    """A finite number above 0. Raises `ParameterError` for others."""
    if epsilon is None or not np.isfinite(epsilon) or epsilon <= 0:
        raise ParameterError(f"epsilon {epsilon}: the test error to reach is a number above 0")
    return float(epsilon)


def errors_of(model: Any, task: Task) -> npt.NDArray[np.float64]:
    """Squared error by test point (t,), averaged over outputs, of a fitted model.

    Raises `ParameterError` where it predicts another shape.
    """
    found: npt.NDArray[np.float64]
    if task.classes is not None and hasattr(model, "predict_proba"):
        found = np.zeros(task.Y_test.shape)
        place = {name: number for number, name in enumerate(task.classes)}
        for column, name in enumerate(map(str, model.classes_)):
            found[:, place[name]] = np.asarray(model.predict_proba(task.X_test))[:, column]
    else:
        found = np.asarray(model.predict(task.X_test))
        if task.classes is not None and found.ndim == 1:
            found = (found.astype(str)[:, None] == np.array(task.classes)[None]).astype(np.float64)
        found = found.reshape(len(found), -1)
    if found.shape != task.Y_test.shape:
        raise ParameterError(f"the model predicts {found.shape}, the test targets are {task.Y_test.shape}: give a model of this task")
    return np.asarray(np.square(found - task.Y_test).mean(1))
