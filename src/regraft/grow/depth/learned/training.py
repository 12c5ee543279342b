"""The loop that trains a gene: AdamW over the gene and what lies outside its layers, resumable, with a curve.

Enters: parameters by name, an objective, a schedule. Leaves: trained parameters and the curve of the loss.
"""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regraft.errors import ParameterError
from regraft.grow.depth.learned.objectives import Objective
from regraft.progress import progress_bar
from regraft.training.state import load_state, save_state

SAVE_EVERY = 120.0  # seconds between saved states
POINTS = 50  # of the curve
UNDECAYED = ("position_embedding", "cls_token", "mask_token")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """`steps` of AdamW: the rate rises to `lr` over the share `warmup` and falls along a cosine to `min_lr`.

    clip : largest norm of the gradient, 0 for none.
    """

    steps: int
    lr: float
    min_lr: float
    warmup: float
    weight_decay: float
    clip: float

    def rate(self, step: int) -> float:
        """Learning rate of `step`, from 0."""
        progress = (step + 0.5) / self.steps
        if progress < self.warmup:
            return self.lr * progress / self.warmup
        turn = (progress - self.warmup) / (1 - self.warmup)
        return self.min_lr + (self.lr - self.min_lr) * 0.5 * (1 + math.cos(math.pi * turn))


def train_gene(
    student: nn.Module, parameters: Mapping[str, nn.Parameter], objective: Objective, schedule: Schedule, seed: int, state: Path | None
) -> list[tuple[int, float]]:
    """Train `parameters` of `student` in place; the curve (step, loss).

    `state` : folder where the state is kept. If it holds one of this very run, training goes on from there to the same end.

    Raises `ParameterError` for a loss that is not finite, `OutputError` for the state of another run.
    """
    optimizer = _optimizer(parameters, schedule)
    identity = _identity(parameters, objective, schedule, seed)
    curve: list[tuple[int, float]] = []
    first = 0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        saved = load_state(state, parameters, optimizer, identity) if state is not None else None
        if saved is not None:
            first, curve = saved["steps"], [(int(step), float(loss)) for step, loss in saved["curve"]]
        student.train()
        last = time.monotonic()
        with progress_bar("learning the gene", total=schedule.steps, unit="steps") as bar:
            bar.update(first)
            for step in range(first, schedule.steps):
                for group in optimizer.param_groups:
                    group["lr"] = schedule.rate(step)
                loss = _step(parameters, optimizer, objective, schedule, step)
                if step * POINTS >= len(curve) * schedule.steps or step + 1 == schedule.steps:
                    curve.append((step, loss))
                bar.advance()
                bar.say(f"{loss:.3f} {objective.unit}")
                done = step + 1
                if state is not None and (time.monotonic() - last >= SAVE_EVERY or done == schedule.steps):
                    save_state(state, parameters, optimizer, {"steps": done, "curve": curve, "identity": identity})
                    last = time.monotonic()
        student.eval()
    return curve


def _step(
    parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, objective: Objective, schedule: Schedule, step: int
) -> float:
    loss = objective.backward(step)
    if not math.isfinite(loss):
        raise ParameterError(f"the loss is not finite at step {step}: lower lr={schedule.lr} or check the model")
    if schedule.clip:
        torch.nn.utils.clip_grad_norm_(parameters.values(), schedule.clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss


def _optimizer(parameters: Mapping[str, nn.Parameter], schedule: Schedule) -> torch.optim.AdamW:
    free = {name for name, one in parameters.items() if one.ndim <= 1 or any(part in name for part in UNDECAYED)}
    groups = [
        {"params": [one for name, one in parameters.items() if name not in free], "weight_decay": schedule.weight_decay},
        {"params": [one for name, one in parameters.items() if name in free], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=schedule.lr, fused=True)


def _identity(parameters: Mapping[str, nn.Parameter], objective: Objective, schedule: Schedule, seed: int) -> dict[str, Any]:
    start = {n: [list(p.shape), float(p.detach().double().sum()), float(p.detach().double().abs().sum())] for n, p in parameters.items()}
    identity: dict[str, Any] = json.loads(
        json.dumps({"settings": asdict(schedule) | {"seed": seed}, "data": objective.data, "gene": start})
    )
    return identity
