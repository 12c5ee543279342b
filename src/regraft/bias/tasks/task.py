"""A task: examples to learn from and examples held out, of one kind."""

import hashlib
import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from regraft.comparison import Metric
from regraft.errors import ParameterError

Kind = Literal["labels", "sequences", "episodes", "environments", "symbols"]
ACCURACY = Metric("accuracy", "high", amounts="right", sizes="examples")
ERROR = Metric("relative_error", "low", amounts="errors", sizes="examples")  # squared, over the power of what was asked for
WORST = Metric("worst_accuracy", "high", amounts="right", sizes="examples")  # in the held-out environment where it is lowest
NATS = Metric("nats", "low", amounts="nats_each", sizes="symbols")


@dataclass(frozen=True, eq=False)
class Task:
    """One task.

    Attributes
    ----------
    kind : "labels" (n, ...) with a class each; "sequences" (n, length, channels) with a class or a target each; "episodes": as labels, the
        classes held out are others than those learned; "environments": as labels, and an environment each, that with the lowest accuracy
        counts; "symbols": (n, length) ids, y what comes next, -100 where nothing is asked.
    x, y, x_test, y_test : float32 (symbols: int64) and int64 (targets of sequences: float32). classes : how many.
    extra : by name, what a kind has beside: "environment" (n,) and "environment_test" (n,) of int64.
    metric : what held-out examples are averaged to.
    """

    name: str
    kind: Kind
    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: int
    extra: dict[str, Tensor] = field(default_factory=dict)
    metric: Metric = ACCURACY

    @property
    def sha256(self) -> str:
        """Of all examples."""
        digest = hashlib.sha256(self.kind.encode())
        for one in (self.x, self.y, self.x_test, self.y_test, *self.extra.values()):
            digest.update(np.ascontiguousarray(one.numpy()).tobytes())
        return digest.hexdigest()


def digits(*, examples: int = 300, seed: int = 0) -> Task:
    """scikit-learn's 8 x 8 digits in [0, 1], (n, 1, 8, 8): `examples` to learn from, the rest held out."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(seed).permutation(len(found.target))
    x, y = torch.tensor(found.images[order] / 16, dtype=torch.float32).unsqueeze(1), torch.tensor(found.target[order])
    return Task("digits", "labels", x[:examples], y[:examples], x[examples:], y[examples:], 10)


def elsewhere(module: str, function: str, **given: Any) -> Callable[..., Task]:
    """The task that `function` of a module of this folder makes, loaded when it is asked for."""
    return lambda **settings: getattr(importlib.import_module(f"regraft.bias.tasks.{module}"), function)(**(given | settings))


NAMED: dict[str, Callable[..., Task]] = {"digits": digits}
NAMED |= {"delay": elsewhere("sequences", "delay"), "digit-sequences": elsewhere("sequences", "digit_sequences")}
NAMED |= {"permuted-digits": elsewhere("sequences", "digit_sequences", permuted=True)}
NAMED |= {"letters": elsewhere("symbols", "letters"), "ciphered-letters": elsewhere("symbols", "letters", ciphered=True)}
NAMED |= {"lookup": elsewhere("symbols", "lookup")}
NAMED |= {"omniglot-characters": elsewhere("characters", "characters")}
NAMED |= {name: elsewhere("colored", name) for name in ("colored_mnist", "inverse_colored_mnist", "colored_digits")}
NAMED |= {"omniglot": elsewhere("omniglot", "omniglot"), "omniglot-20-way": elsewhere("omniglot", "omniglot", way=20)}


def open_task(name: str, **settings: Any) -> Task:
    """The task called `name`, or of a .safetensors file. Raises `ParameterError` for an unknown one, `TaskError` for a damaged file."""
    if name.endswith(".safetensors"):
        return elsewhere("from_file", "environments_from")(path=Path(name))
    if name not in NAMED:
        raise ParameterError(f"unknown task {name}: choose {', '.join(NAMED)}")
    return NAMED[name](**settings)
