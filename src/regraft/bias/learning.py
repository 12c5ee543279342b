"""The loop that priors share: AdamW over shuffled batches; at the end right answers, or errors of targets."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from regraft.bias.prior import Plan
from regraft.bias.tasks.task import Task
from regraft.progress import progress_bar

Loss = Callable[[Tensor, Tensor], Tensor]


def fit(
    model: nn.Module, task: Task, plan: Plan, loss: Loss, groups: Iterable[Any] | None = None, rate: float = 1e-3
) -> list[tuple[float, float]]:
    """Train `model` on batches of `task`; `loss(output, labels)`. Returns (step, loss) now and then."""
    optimizer = torch.optim.AdamW(model.parameters() if groups is None else groups, lr=rate)
    draw = torch.Generator().manual_seed(plan.seed)
    curve, order = [], torch.empty(0, dtype=torch.int64)
    model.train()
    with progress_bar(f"training on {task.name}", plan.steps, "steps") as bar:
        for step in range(plan.steps):
            if len(order) < plan.batch:
                order = torch.randperm(len(task.x), generator=draw)
            picked, order = order[: plan.batch], order[plan.batch :]
            value = loss(model(task.x[picked]), task.y[picked])
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if step % max(1, plan.steps // 50) == 0 or step == plan.steps - 1:
                curve.append((float(step + 1), float(value.detach())))
            bar.advance()
    return curve


@torch.no_grad()
def right(model: nn.Module, task: Task, block: int = 512) -> npt.NDArray[np.float64]:
    """1 for each held-out example whose greatest score is its class, else 0."""
    model.eval()
    found = [(model(x).argmax(1) == y) for x, y in zip(torch.split(task.x_test, block), torch.split(task.y_test, block), strict=True)]
    return torch.cat(found).double().numpy()


@torch.no_grad()
def relative_errors(model: nn.Module, task: Task, block: int = 512) -> npt.NDArray[np.float64]:
    """For each held-out sequence of targets the squared error over the power of the targets, where there are any (zeros are not scored)."""
    model.eval()
    found = []
    for x, y in zip(torch.split(task.x_test, block), torch.split(task.y_test, block), strict=True):
        asked = y != 0
        found.append((((model(x) - y) * asked).square().sum((1, 2)) / y.square().sum((1, 2))).double())
    return torch.cat(found).numpy()


def learned_numbers(model: nn.Module) -> int:
    """How many numbers of `model` learn."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
