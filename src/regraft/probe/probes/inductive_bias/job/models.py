"""Model classes beside each other on one task: what error each reaches, in the shared comparison beside the mean of the targets.

For one hypothesis space the bias falls with the error, so the order of errors is the order of biases, and errors can be compared point by
point.
"""

import hashlib
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from regraft.comparison import Arm, Bench, Kept, Metric, Outcome
from regraft.errors import ParameterError
from regraft.evaluation.paired import Sample
from regraft.meter import metered
from regraft.probe.probes.inductive_bias.networks import Training, sample_networks
from regraft.probe.probes.inductive_bias.specs import NETWORKS, Spec
from regraft.probe.probes.inductive_bias.task import Task

Floats = npt.NDArray[np.float64]
REPEATS = 3  # networks and forests whose errors are averaged
REFERENCE = "mean of targets"


class ModelBench(Bench):
    """Squared error by test point, averaged over outputs; lower is better."""

    metric, reference = Metric("test_error", "low"), REFERENCE

    def __init__(self, task: Task, training: Training, seed: int, kept: Kept | None = None) -> None:
        self.task, self.training, self.seed, self.kept = task, training, seed, kept

    def fingerprint(self, *, trained: bool) -> str:
        return hashlib.sha256(f"{self.task.digest()} {asdict(self.training)} {self.seed}".encode()).hexdigest()

    def baseline(self) -> Outcome:
        mean = self.task.Y_train.mean(0)
        return self._outcome(self.reference, np.square(self.task.Y_test - mean).mean(1)[None])

    def measure(self, arm: Arm) -> Outcome:
        with metered() as cost:
            errors = self._errors(arm.method)
        outcome = self._outcome(arm.name, errors)
        outcome.row |= {"seconds": cost.seconds}
        return outcome

    def _outcome(self, name: str, errors: Floats) -> Outcome:
        sample = Sample(errors, np.ones_like(errors))
        return Outcome({"method": name, "error": None, self.metric.name: sample.value}, sample)

    def _errors(self, spec: Spec) -> Floats:
        """(repeats, t)."""
        seeds = [self.seed * 1_000_000 + 500_000 + number for number in range(REPEATS)]  # none of the space's own
        if spec.kind in NETWORKS:
            return sample_networks(spec, self.task, seeds, self.training, self.kept).errors
        repeats = REPEATS if spec.kind in ("tree", "forest") else 1
        return np.stack([np.square(predict(spec, self.task, seed) - self.task.Y_test).mean(1) for seed in seeds[:repeats]])


def predict(spec: Spec, task: Task, seed: int) -> Floats:
    """(t, k) of an estimator of scikit-learn, fitted on the training rows.

    Raises `ParameterError`: scikit-learn is missing, or logistic regression on a task without classes.
    """
    try:
        from sklearn.ensemble import RandomForestRegressor
        from sklearn.linear_model import LogisticRegression, RidgeCV
        from sklearn.neighbors import KNeighborsRegressor
        from sklearn.tree import DecisionTreeRegressor
    except ModuleNotFoundError:
        raise ParameterError(f"--model {spec} needs the package scikit-learn: pip install 'regraft[probe]'") from None
    if spec.kind == "logistic":
        if task.classes is None:
            raise ParameterError("--model logistic: the task has numbers to predict, not classes: take ridge")
        labels = task.Y_train.argmax(1)
        found = np.zeros(task.Y_test.shape)
        if len(np.unique(labels)) == 1:
            raise ParameterError("--model logistic: the training rows are of one class: give more")
        fitted = LogisticRegression(max_iter=2000).fit(task.X_train, labels)
        found[:, fitted.classes_] = fitted.predict_proba(task.X_test)
        return found
    model: Any = {
        "ridge": lambda: RidgeCV(np.logspace(-4, 4, 17)),
        "tree": lambda: DecisionTreeRegressor(random_state=seed % 2**31),
        "forest": lambda: RandomForestRegressor(200, random_state=seed % 2**31, n_jobs=1),
        "knn": lambda: KNeighborsRegressor(min(spec.numbers[0], task.n)),
    }[spec.kind]()
    targets = task.Y_train[:, 0] if task.Y_train.shape[1] == 1 else task.Y_train
    return np.asarray(model.fit(task.X_train, targets).predict(task.X_test), dtype=np.float64).reshape(task.Y_test.shape)
