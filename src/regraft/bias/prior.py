"""The contract of a prior: a network that starts with it, trained on a task, and judged on what it has not seen.

A plain twin (same size, same steps, without the prior) is a prior of its own; it is the baseline of its kind of task.
"""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from regraft.bias.tasks.task import Kind, Task
from regraft.method import Method


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long a network learns: `steps` of the optimizer on batches of `batch`; what is drawn follows `seed`."""

    steps: int = 300
    batch: int = 50
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Learned:
    """What a prior came to on a task.

    Attributes
    ----------
    scores : (held-out examples,) what the task's metric averages: 1 for right and 0 for wrong, or nats.
    parameters : how many numbers were learned. curve : (step, value of the metric on held-out examples or of the loss), for the picture.
    facts : what else belongs into the row of a comparison, plain numbers by name. model : the trained module.
    """

    scores: npt.NDArray[np.float64]
    parameters: int
    model: Any
    curve: list[tuple[float, float]] = field(default_factory=list)
    facts: dict[str, float] = field(default_factory=dict)


class Prior(Method):
    """Base of every prior.

    Attributes
    ----------
    kinds : of tasks that it can learn. plain_of : the kinds for which it is the baseline.

    Returns, by `learn`, how each held-out example fared.
    """

    family = "prior"
    kinds: ClassVar[tuple[Kind, ...]]
    plain_of: ClassVar[tuple[Kind, ...]] = ()

    @abstractmethod
    def learn(self, task: Task, plan: Plan) -> Learned:
        """Train on `task` for `plan.steps`, and score its held-out examples once, at the end."""
