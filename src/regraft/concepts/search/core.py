"""The search itself, the same for pictures, classes, masks and boxes: rows move until a frozen model does its task with them.

Enters: a task (a frozen model, a loss, examples), rows to start from, and which of them may move. Leaves: the rows, and how it went.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import nn

from regraft.concepts.learning import optimize
from regraft.concepts.method import Plan
from regraft.errors import ParameterError

Batch = tuple[Any, Any]  # what the model is given, what it should have said


@dataclass(frozen=True, eq=False)
class Task:
    """What rows are judged by.

    Attributes
    ----------
    model : `model(x, rows)`, frozen. loss : `loss(output, target)`, a mean over examples.
    draw : `draw(size, generator)` returns (x, target) of `size` examples.
    """

    model: Callable[[Any, torch.Tensor], Any]
    loss: Callable[[Any, Any], torch.Tensor]
    draw: Callable[[int, torch.Generator], Batch]

    def through(self, tower: Callable[[torch.Tensor], torch.Tensor]) -> "Task":
        """The same task for what a text tower reads: `tower(input)` gives the rows. Prompt tuning and textual inversion search there."""
        return replace(self, model=lambda x, given: self.model(x, tower(given)))


def examples(x: torch.Tensor, target: torch.Tensor) -> Callable[[int, torch.Generator], Batch]:
    """Draws from tensors whose first axis counts examples; all of them where no more are there than asked for."""
    if len(x) != len(target) or not len(x):
        raise ParameterError(f"{len(x)} examples and {len(target)} targets: give as many of the one as of the other, and at least one")

    def draw(size: int, generator: torch.Generator) -> Batch:
        if size >= len(x):
            return x, target
        rows = torch.randperm(len(x), generator=generator)[:size].to(x.device)
        return x[rows], target[rows]

    return draw


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast the rows move.

    Attributes
    ----------
    steps : of the optimizer. lr : its rate, constant. batch : examples a step. seed : of the draws.
    weight_decay : of AdamW. optimizer : AdamW, or plain gradient descent.
    pull : weight of the squared distance to the start, added to the loss.
    cap : no row gets longer than it was at the start.
    """

    steps: int = 400
    lr: float = 5e-3
    batch: int = 8
    seed: int = 0
    weight_decay: float = 0.0
    optimizer: Literal["adamw", "sgd"] = "adamw"
    pull: float = 0.0
    cap: bool = False


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found.

    Attributes
    ----------
    rows : (rows, width). start : where they began. curve : (step, mean loss since the last point).
    seconds : of all steps. steps : that were made. stopped : why it ended early, None if it did not.
    """

    rows: torch.Tensor
    start: torch.Tensor
    curve: list[tuple[float, float]] = field(default_factory=list)
    seconds: float = 0.0
    steps: int = 0
    stopped: str | None = None

    @property
    def lengths(self) -> torch.Tensor:
        """Length of every row before and after, (rows, 2)."""
        return torch.stack([self.start.norm(dim=1), self.rows.norm(dim=1)], 1)

    @property
    def seconds_a_step(self) -> float:
        return self.seconds / max(self.steps, 1)

    def steps_to(self, loss: float) -> float | None:
        """The first point of the curve that is no higher than `loss`; None if it never was."""
        return next((step for step, value in self.curve if value <= loss), None)


def search(
    task: Task,
    start: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    pace: Pace | None = None,
    plan: Plan | None = None,
    stop: Callable[[int, torch.Tensor], str | None] | None = None,
    told: str = "search",
) -> Found:
    r"""Rows that a frozen model does its task with, :math:`c^* = \arg\min_c \mathbb{E}\, \ell(F(x, c), y)` (ConES, section 3).

    Parameters
    ----------
    start : (rows, width), what the text tower says of a phrase, or noise like it. mask : (rows,) of those that may move; None, all.
    plan : its seed, file of state and batches a step, where they are not those of `pace`.
    stop : `stop(step, rows)` after each step; what it says ends the search.

    Raises `ParameterError`: rows that are no matrix or not finite, a mask of another length or of no row, no gradient at the first step.
    """
    pace = pace or Pace()
    moving = _checked(start, mask)
    start = start.detach().clone()
    free = nn.Parameter(start[moving].clone())
    longest = free.detach().norm(dim=1, keepdim=True)

    def whole() -> torch.Tensor:
        return start.index_put((moving,), free)

    def drawn(step: int, generator: torch.Generator) -> torch.Tensor:
        x, target = task.draw(pace.batch, generator)
        loss = task.loss(task.model(x, whole()), target)
        return loss + pace.pull * (free - start[moving]).square().sum() if pace.pull else loss

    def after(step: int) -> str | None:
        made[0] += 1
        if pace.cap:
            with torch.no_grad():
                free.mul_((longest / free.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1))
        return None if stop is None else stop(step + 1, whole().detach())

    made, began = [0], time.perf_counter()
    optimizer: torch.optim.Optimizer
    if pace.optimizer == "sgd":
        optimizer = torch.optim.SGD([free], lr=pace.lr, weight_decay=pace.weight_decay)
    else:
        optimizer = torch.optim.AdamW([free], lr=pace.lr, weight_decay=pace.weight_decay)
    plan = plan or Plan(steps=pace.steps, seed=pace.seed)
    run = optimize({"rows": free}, drawn, optimizer, plan, told, after=after)
    return Found(whole().detach(), start, run.curve, time.perf_counter() - began, made[0], run.stopped)


def _checked(start: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    if start.dim() != 2 or not bool(start.isfinite().all()):
        raise ParameterError(f"rows to start from must be (rows, width) and finite, not {tuple(start.shape)}")
    moving = torch.ones(len(start), dtype=torch.bool, device=start.device) if mask is None else mask.to(start.device).bool()
    if moving.shape != start.shape[:1] or not bool(moving.any()):
        raise ParameterError(f"a mask of {tuple(moving.shape)} with {int(moving.sum())} rows that may move, for {len(start)} rows")
    return moving


def noise_like(real: torch.Tensor, count: int, seed: int = 0) -> torch.Tensor:
    """`count` rows of normal noise with the mean and standard deviation of `real` rows (n, width), in each dimension."""
    if real.dim() != 2 or len(real) < 2:
        raise ParameterError(f"noise like real rows needs at least two of them, (n, width), not {tuple(real.shape)}")
    drawn = torch.randn(count, real.shape[1], generator=torch.Generator().manual_seed(seed), dtype=real.dtype)
    return real.mean(0) + real.std(0) * drawn.to(real.device)
