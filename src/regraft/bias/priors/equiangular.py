"""Equiangular basis vectors: classes have fixed, nearly orthogonal vectors, and the network learns to point at them."""

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import nn

from regraft.bias.equiangular.bases import make_bases
from regraft.bias.equiangular.head import EquiangularClassifier
from regraft.bias.learning import fit, learned_numbers, right
from regraft.bias.prior import Learned, Plan, Prior
from regraft.bias.priors.plain_classifier import body
from regraft.bias.tasks.task import Task
from regraft.method import Paper


class Equiangular(Prior):
    r"""The plain network with a linear layer to d and fixed unit vectors :math:`w_j` behind it (section 3).

    Logits are :math:`\langle z / |z|, w_j \rangle / \tau`; only the network learns, by cross entropy. Accuracy is by the nearest vector.

    dim : d; 0: 64, or the number of classes where that is more. alpha : greatest cosine between classes; None: as small as it gets.
    vectors : "apart", or the baselines "random" and "simplex". temperature : tau. hidden, smoothing, rate : as in `plain-classifier`.
    """

    kinds = ("labels",)
    paper = Paper("Equiangular Basis Vectors", "Shen et al.", 2023, "2303.11637")
    summary = "fixed class vectors, nearly orthogonal, that a network learns to point at"

    dim: Annotated[int, Ge(0)] = 0
    alpha: float | None = None
    vectors: Literal["apart", "random", "simplex"] = "apart"
    temperature: Annotated[float, Gt(0)] = 0.07
    hidden: Annotated[int, Ge(1)] = 256
    smoothing: float = 0.1
    rate: float = 1e-3

    def learn(self, task: Task, plan: Plan) -> Learned:
        generator = "auto" if self.vectors == "apart" else self.vectors
        bases = make_bases(task.classes, self.dim or max(64, task.classes), alpha=self.alpha, generator=generator, seed=plan.seed)
        torch.manual_seed(plan.seed)
        model = EquiangularClassifier(
            body(task.x[0].numel(), self.hidden), self.hidden, task.classes, bases=bases, temperature=self.temperature
        )
        curve = fit(model, task, plan, nn.CrossEntropyLoss(label_smoothing=self.smoothing), rate=self.rate)
        facts = {"greatest_cosine": float(bases.facts["greatest_cosine"]), "bound": float(bases.facts["bound"])}
        return Learned(right(model, task), learned_numbers(model), model, curve, facts)
