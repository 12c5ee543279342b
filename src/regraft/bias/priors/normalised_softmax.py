"""A softmax of cosines whose class vectors learn: the rival of fixed ones."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import nn

from regraft.bias.equiangular.head import CosineSoftmax
from regraft.bias.learning import fit, learned_numbers, right
from regraft.bias.prior import Learned, Plan, Prior
from regraft.bias.priors.plain_classifier import body
from regraft.bias.tasks.task import Task
from regraft.method import Paper


class NormalisedSoftmax(Prior):
    """The baseline with the same cosines and temperature, whose class vectors learn.

    dim : of a vector. temperature : that cosines are divided by. hidden : units of a layer. smoothing : of labels. rate : AdamW's.
    """

    kinds = ("labels",)
    paper = Paper("NormFace: L2 Hypersphere Embedding for Face Verification", "Wang et al.", 2017, "1704.06369")
    summary = "class vectors that learn, compared by cosine: what fixed ones are set beside"

    dim: Annotated[int, Ge(1)] = 64
    temperature: Annotated[float, Gt(0)] = 0.07
    hidden: Annotated[int, Ge(1)] = 256
    smoothing: float = 0.1
    rate: float = 1e-3

    def learn(self, task: Task, plan: Plan) -> Learned:
        torch.manual_seed(plan.seed)
        head = [nn.Linear(self.hidden, self.dim), CosineSoftmax(self.dim, task.classes, self.temperature)]
        model = nn.Sequential(body(task.x[0].numel(), self.hidden), *head)
        curve = fit(model, task, plan, nn.CrossEntropyLoss(label_smoothing=self.smoothing), rate=self.rate)
        return Learned(right(model, task), learned_numbers(model), model, curve)
