"""Path B: a hypothesis space of trained networks, sampled by training many from independent weights and orders of the data.

Enters: a form, a task, seeds. Leaves: the test error of each network, point by point. Networks are trained beside each other as one stack
of weights; each draws from a generator of its own, so a network is the same whoever its neighbours are. What is trained is kept.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import conv2d, relu

from regraft.comparison import Kept
from regraft.probe.probes.inductive_bias.kernels import image_side
from regraft.probe.probes.inductive_bias.specs import Spec
from regraft.probe.probes.inductive_bias.task import Task
from regraft.progress import progress_bar

Floats = npt.NDArray[np.float64]
STACK = 10  # networks trained beside each other


@dataclass(frozen=True)
class Training:
    """Adam on mean squared error, as the authors' networks; the number of epochs and the batch are ours."""

    epochs: int = 100
    lr: float = 1e-3
    batch: int = 32


@dataclass(frozen=True)
class Trained:
    """Of S networks: squared test error by point (S, t), averaged over outputs, and the training error (S,)."""

    errors: Floats
    training: Floats


def sample_networks(spec: Spec, task: Task, seeds: Sequence[int], training: Training, kept: Kept | None = None) -> Trained:
    """Networks of these seeds; those found in `kept` are not trained again. Raises `ParameterError` for a CNN without images."""
    kept = kept or Kept(None, "")
    key = f"{spec} {task.digest()} {json.dumps(asdict(training))}"
    missing = [seed for seed in seeds if kept.found(key, str(seed)) is None]
    with progress_bar(f"training {spec}", total=len(missing), unit="networks") as bar:
        for start in range(0, len(missing), STACK):
            some = missing[start : start + STACK]
            errors, fitted = train(spec, task, some, training)
            for seed, by_point, own in zip(some, errors.tolist(), fitted.tolist(), strict=True):
                kept.keep(key, {"errors": by_point, "training": own}, str(seed))
            bar.advance(len(some))
    lines = [kept.lines[(key, str(seed))] for seed in seeds]
    return Trained(np.array([line["errors"] for line in lines]), np.array([line["training"] for line in lines]))


def train(spec: Spec, task: Task, seeds: Sequence[int], training: Training) -> tuple[Floats, Floats]:
    """Test errors (S, t) and training errors (S,) of one stack."""
    X, Y, T, U = (torch.from_numpy(part).float() for part in (task.X_train, task.Y_train, task.X_test, task.Y_test))
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    stack = _Stack(spec, X.shape[1], Y.shape[1], generators)
    optimizer = torch.optim.Adam(stack.parameters, lr=training.lr)
    for _ in range(training.epochs):
        order = torch.stack([torch.randperm(len(X), generator=one) for one in generators])
        for batch in torch.split(order, training.batch, dim=1):
            loss = (stack(X[batch]) - Y[batch]).square().mean((1, 2)).sum()  # a sum over networks: none sees another's gradient
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    with torch.no_grad():
        tested, fitted = ((stack(rows.expand(len(seeds), -1, -1)) - targets).square().mean(2) for rows, targets in ((T, U), (X, Y)))
    return tested.double().numpy(), fitted.mean(1).double().numpy()


class _Stack:
    """S networks of one form: layers of ReLU, weights and biases uniform within 1 / sqrt(fan-in), as PyTorch starts them."""

    def __init__(self, spec: Spec, columns: int, outputs: int, generators: Sequence[torch.Generator]) -> None:
        self.size, self.side = len(generators), image_side(columns, spec) if spec.kind == "cnn" else 0
        widths = spec.numbers
        shapes: list[tuple[int, ...]]
        if self.side:
            shapes = [(b, a, 3, 3) for a, b in pairwise((1, *widths))]
            fans = [9 * a for a in (1, *widths[:-1])]
            flat = widths[-1] * self.side**2
            shapes, fans = [*shapes, (flat, outputs)], [*fans, flat]
        else:
            shapes = [*pairwise((columns, *widths, outputs))]
            fans = [columns, *widths]
        self.layers = []
        for shape, fan in zip(shapes, fans, strict=True):
            out = shape[0] if len(shape) == 4 else shape[1]
            self.layers.append(tuple(_uniform(one, fan, generators) for one in (shape, (out,))))

    @property
    def parameters(self) -> list[torch.Tensor]:
        return [part for layer in self.layers for part in layer]

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """(S, B, d) -> (S, B, k)."""
        if self.side:
            rows = self._convolved(rows)
        first = len(self.layers) - 1 if self.side else 0
        for number, (weight, bias) in enumerate(self.layers[first:], first):
            rows = torch.baddbmm(bias[:, None], rows, weight)
            if number < len(self.layers) - 1:
                rows = relu(rows)
        return rows

    def _convolved(self, rows: torch.Tensor) -> torch.Tensor:
        maps = rows.reshape(self.size, -1, self.side, self.side).transpose(0, 1)  # (B, S, height, width): a group of channels a network
        for weight, bias in self.layers[:-1]:
            maps = relu(conv2d(maps, weight.flatten(0, 1), bias.flatten(), padding=1, groups=self.size))
        return maps.reshape(len(maps), self.size, -1).transpose(0, 1)


def _uniform(shape: Sequence[int], fan: int, generators: Sequence[torch.Generator]) -> torch.Tensor:
    drawn = torch.stack([torch.rand(*shape, generator=one) for one in generators])
    return ((2 * drawn - 1) / math.sqrt(fan)).requires_grad_()
