"""The baseline on sequences: gated recurrent units."""

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn

from regraft.bias.learning import fit, learned_numbers
from regraft.bias.prior import Learned, Plan, Prior
from regraft.bias.priors.s4d import loss_of, scores_of
from regraft.bias.tasks.task import Task
from regraft.method import Paper


class PlainRecurrent(Prior):
    """One layer of gated recurrent units and a linear layer, behind the mean over steps or at each step.

    hidden : units; 56 are as many numbers as `s4d` has by default. rate : AdamW's.
    """

    kinds = ("sequences",)
    plain_of = ("sequences",)
    paper = Paper("Learning Phrase Representations using RNN Encoder-Decoder", "Cho et al.", 2014, "1406.1078")
    summary = "baseline on sequences: gated recurrent units"

    hidden: Annotated[int, Ge(1)] = 56
    rate: float = 1e-2

    def learn(self, task: Task, plan: Plan) -> Learned:
        torch.manual_seed(plan.seed)
        model = Recurrent(task.x.shape[-1], self.hidden, task.classes, pool=task.y.ndim == 1)
        curve = fit(model, task, plan, loss_of(task), rate=self.rate)
        return Learned(scores_of(model, task), learned_numbers(model), model, curve)


class Recurrent(nn.Module):
    """(n, length, inputs) -> (n, outputs), or (n, length, outputs) without `pool`."""

    def __init__(self, inputs: int, hidden: int, outputs: int, *, pool: bool) -> None:
        super().__init__()
        self.units = nn.GRU(inputs, hidden, batch_first=True)
        self.last = nn.Linear(hidden, outputs)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.units(x)[0]
        found: Tensor = self.last(hidden.mean(1) if self.pool else hidden)
        return found
