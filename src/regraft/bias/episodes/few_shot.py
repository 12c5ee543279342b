"""Training in episodes, and judging by the nearest prototype in episodes of classes that were never seen."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from regraft.bias.episodes.encoders import embed
from regraft.bias.episodes.losses import prototypes, squared
from regraft.bias.episodes.sampler import EpisodeSampler
from regraft.bias.prior import Plan
from regraft.bias.tasks.task import Task
from regraft.progress import progress_bar

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # queries, their labels, support, its labels
DRAWN = 1234  # test episodes are the same for all


def train(
    model: nn.Module, task: Task, plan: Plan, loss: Loss, *, way: int, shot: int, queries: int, rate: float
) -> list[tuple[float, float]]:
    """Adam on an episode a step, its rate halved after each third. Returns (step, loss) now and then."""
    sampler = EpisodeSampler(task.y, way=way, shot=shot, queries=queries, episodes=plan.steps, seed=plan.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, max(1, -(-plan.steps // 3)), 0.5)
    curve = []
    model.train()
    with progress_bar(f"episodes of {task.name}", plan.steps, "episodes") as bar:
        for step, picked in enumerate(sampler):
            found, labels = model(task.x[picked]), task.y[picked]
            value = loss(found[way * shot :], labels[way * shot :], found[: way * shot], labels[: way * shot])
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            if step % max(1, plan.steps // 50) == 0 or step == plan.steps - 1:
                curve.append((float(step + 1), float(value.detach())))
            bar.advance()
    return curve


def judge(model: nn.Module, task: Task, way: int | None = None) -> npt.NDArray[np.float64]:
    """(episodes,) the share of queries whose nearest prototype is their class's, in episodes of the task's held-out classes.

    What an episode holds is the task's ``extra["episode"]`` (way, shot, queries, episodes); `way` asks for another number of classes.
    """
    asked, shot, queries, episodes = task.extra["episode"].tolist()
    way = way or asked
    rows = embed(model, task.x_test)
    found = []
    for picked in EpisodeSampler(task.y_test, way=way, shot=shot, queries=queries, episodes=episodes, seed=DRAWN):
        support, query = picked[: way * shot], picked[way * shot :]
        centers, names = prototypes(rows[support], task.y_test[support])
        guess = names[squared(rows[query], centers).argmin(1)]
        found.append((guess == task.y_test[query]).double().mean())
    return torch.stack(found).numpy()
