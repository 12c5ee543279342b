"""What a family supplies to be compared: arms, a baseline, and how an arm is measured and trained."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from regraft.comparison.outcome import Metric, Outcome
from regraft.errors import ParameterError


@dataclass(frozen=True)
class Arm:
    """One way: a method with its settings. `str(method)` must name all settings, for it tells kept rows apart."""

    name: str
    method: Any

    @property
    def settings(self) -> str:
        return f"{self.name} {self.method}"


class Bench(ABC):
    """Where arms are measured, each beside the same baseline.

    Attributes
    ----------
    metric : what arms are ranked by.
    reference : the baseline's name in the table.
    unit : what the progress of training counts.
    """

    metric: Metric
    reference: str = "baseline"
    unit: str = "methods"

    @abstractmethod
    def fingerprint(self, *, trained: bool) -> str:
        """Identifies all that a row depends on beside its arm: data, model, seed, and with `trained` the budget of training."""

    @abstractmethod
    def baseline(self) -> Outcome:
        """What is compared with, under the name `reference`. What it raises ends the comparison."""

    @abstractmethod
    def measure(self, arm: Arm) -> Outcome:
        """The arm before training (or trained at once). What it raises becomes the row's error."""

    def train(self, arm: Arm, outcome: Outcome) -> Outcome:
        """`outcome` with the metric after training. What it raises becomes the row's error. Only where finalists are trained."""
        raise ParameterError(f"{type(self).__name__} has no training: compare with finalists=0")
