"""The baseline on labels: a network with an ordinary last layer."""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import nn

from regraft.bias.learning import fit, learned_numbers, right
from regraft.bias.prior import Learned, Plan, Prior
from regraft.bias.tasks.task import Task
from regraft.method import Paper


class PlainClassifier(Prior):
    """Two hidden layers of rectified units and a linear layer to classes.

    hidden : their width. smoothing : of labels. rate : AdamW's.
    """

    kinds = ("labels",)
    plain_of = ("labels",)
    paper = Paper("Learning representations by back-propagating errors", "Rumelhart et al.", 1986, url="https://doi.org/10.1038/323533a0")
    summary = "baseline on labels: two hidden layers and a linear head"

    hidden: Annotated[int, Ge(1)] = 256
    smoothing: float = 0.1
    rate: float = 1e-3

    def learn(self, task: Task, plan: Plan) -> Learned:
        torch.manual_seed(plan.seed)
        model = nn.Sequential(body(task.x[0].numel(), self.hidden), nn.Linear(self.hidden, task.classes))
        curve = fit(model, task, plan, nn.CrossEntropyLoss(label_smoothing=self.smoothing), rate=self.rate)
        return Learned(right(model, task), learned_numbers(model), model, curve)


def body(inputs: int, hidden: int) -> nn.Module:
    """Two hidden layers over flattened examples."""
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
