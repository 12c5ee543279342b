"""S4D: diagonal state spaces that start where they remember."""

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from annotated_types import Ge
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from regraft.bias.learning import Loss, fit, learned_numbers, relative_errors, right
from regraft.bias.prior import Learned, Plan, Prior
from regraft.bias.ssm.discrete import Discretisation
from regraft.bias.ssm.initial import Init
from regraft.bias.ssm.layer import S4DConfig, param_groups
from regraft.bias.ssm.network import BlockConfig, S4DModel
from regraft.bias.tasks.task import Task
from regraft.method import Paper


class S4d(Prior):
    r"""Blocks of :math:`x' = A x + B u,\ y = C x + D u` with A diagonal, started as `init` says (section 4).

    init : "lin", "inv", "legs", "real", "mixed" ("lin" and "inv"), or the ablations "rand", "inv2", "quad". disc : "zoh" or "bilinear".
    hidden : channels H. d_state : N, both of a conjugate pair counted. layers : blocks. dt_min, dt_max : range of the steps. mix :
    "glu", or "linear" as in the paper's ablations. dropout : after each layer. rate, decay : of AdamW; ssm_rate : of step, A and B,
    which have no decay.
    """

    kinds = ("sequences",)
    paper = Paper("On the Parameterization and Initialization of Diagonal State Space Models", "Gu et al.", 2022, "2206.11893")
    summary = "state spaces with a diagonal matrix that starts where a sequence is remembered"

    init: Init | Literal["mixed"] = "legs"
    disc: Discretisation = "zoh"
    hidden: Annotated[int, Ge(1)] = 32
    d_state: Annotated[int, Ge(1)] = 32
    layers: Annotated[int, Ge(1)] = 2
    dt_min: float = 1e-3
    dt_max: float = 0.1
    mix: Literal["glu", "linear"] = "glu"
    dropout: float = 0.0
    rate: float = 1e-2
    ssm_rate: float = 1e-3
    decay: float = 0.05

    def learn(self, task: Task, plan: Plan) -> Learned:
        torch.manual_seed(plan.seed)
        config = S4DConfig(
            d_model=self.hidden,
            d_state=self.d_state,
            init=self.init,
            disc=self.disc,
            dt_min=self.dt_min,
            dt_max=self.dt_max,
            l_max=task.x.shape[1],
        )
        around = BlockConfig(dropout=self.dropout, mix=self.mix)
        model = S4DModel(task.x.shape[-1], task.classes, config, layers=self.layers, pool=task.y.ndim == 1, around=around)
        groups = param_groups(model, lr=self.rate, weight_decay=self.decay, ssm_lr=self.ssm_rate)
        curve = fit(model, task, plan, loss_of(task), groups, rate=self.rate)
        return Learned(scores_of(model, task), learned_numbers(model), model, curve)


def loss_of(task: Task) -> Loss:
    """Cross entropy of a class each, squared error of a target each step."""
    return cross_entropy if task.y.ndim == 1 else mse_loss


def scores_of(model: nn.Module, task: Task) -> npt.NDArray[np.float64]:
    """Right answers, or relative errors."""
    return right(model, task) if task.y.ndim == 1 else relative_errors(model, task)
