"""A residual network in the Poincare ball, and the same network with plain parts."""

from abc import abstractmethod
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import nn

from regraft.bias.learning import fit, learned_numbers, right
from regraft.bias.poincare.layers import Init
from regraft.bias.poincare.resnet import EuclideanResNet, PoincareResNet
from regraft.bias.prior import Learned, Plan, Prior
from regraft.bias.tasks.task import Task
from regraft.errors import ParameterError
from regraft.method import Paper


class ImagePrior(Prior):
    """What both networks share: three groups of residual blocks, each with twice as many channels as the one before.

    width : channels of the first group. blocks : of a group. rate : AdamW's. The paper has width 8 and 3 or 5 blocks (depth 20 and 32),
    batches of 128 and Adam with 1e-3.
    """

    kinds = ("labels",)
    width: Annotated[int, Ge(1)] = 8
    blocks: Annotated[int, Ge(1)] = 1
    rate: float = 1e-3

    @abstractmethod
    def network(self, channels: int, classes: int) -> nn.Module:
        """An untrained one."""

    @property
    def widths(self) -> tuple[int, int, int]:
        return self.width, 2 * self.width, 4 * self.width

    def learn(self, task: Task, plan: Plan) -> Learned:
        if task.x.dim() != 4:
            raise ParameterError(
                f"{task.name} has examples of {tuple(task.x.shape[1:])}: {self.name} takes images (channels, height, width)"
            )
        torch.manual_seed(plan.seed)
        model = self.network(task.x.shape[1], task.classes)
        curve = fit(model, task, plan, nn.CrossEntropyLoss(), rate=self.rate)
        return Learned(right(model, task), learned_numbers(model), model, curve)


class PoincareResNetPrior(ImagePrior):
    """`regraft.bias.PoincareResNet` in the ball of curvature -c.

    c : as above. learnable : whether c learns too. init : "eye" is the paper's identity, "hnn++" what it replaces. mean : of batch
    norms, "midpoint" or the slow "frechet". norms : False leaves batch norms out.
    """

    name = "poincare-resnet"
    paper = Paper("Poincaré ResNet", "van Spengler et al.", 2023, "2303.14027")
    summary = "images: a residual network whose features lie in the Poincaré ball"

    c: Annotated[float, Gt(0)] = 0.1
    learnable: bool = False
    init: Init = "eye"
    mean: Literal["midpoint", "frechet"] = "midpoint"
    norms: bool = True

    def network(self, channels: int, classes: int) -> nn.Module:
        return PoincareResNet(
            classes,
            self.widths,
            self.blocks,
            channels,
            ball=self.c,
            learnable=self.learnable,
            init=self.init,
            mean=self.mean,
            norms=self.norms,
        )


class PlainResNet(ImagePrior):
    """The twin of `poincare-resnet`: the same convolutions, batch norms and sums without curvature."""

    name = "plain-resnet"
    paper = Paper("Deep Residual Learning for Image Recognition", "He et al.", 2015, "1512.03385")
    summary = "twin of poincare-resnet: the same residual network with plain parts"

    def network(self, channels: int, classes: int) -> nn.Module:
        return EuclideanResNet(classes, self.widths, self.blocks, channels)
