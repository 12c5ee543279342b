"""Logit distillation, the baseline: a trained teacher's outputs instead of its layers."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from regraft.grow.guide.guide import Guide
from regraft.method import Paper


class DistillationLoss(nn.Module):
    """weight * T^2 * KL(teacher || target) at temperature T, over the last outputs of both."""

    def __init__(self, target: nn.Module, guide: nn.Module, weight: float, temperature: float) -> None:
        super().__init__()
        self.weight, self.temperature, self.per_layer = weight, temperature, dict[str, float]()
        self._guide, self._last = (guide,), list[Tensor]()
        self._hook = target.register_forward_hook(self._see)

    def _see(self, module: nn.Module, given: object, output: Tensor) -> None:
        self._last = [output]

    def forward(self, *inputs: Tensor) -> Tensor:
        (logits,), self._last = self._last, []
        teacher = self._guide[0].eval()
        with torch.no_grad():
            wanted = log_softmax(teacher(*inputs) / self.temperature, dim=-1)
        found = kl_div(log_softmax(logits / self.temperature, dim=-1), wanted, log_target=True, reduction="batchmean")
        self.per_layer = {"logits": float(found.detach())}
        return self.weight * self.temperature**2 * found

    def remove(self) -> None:
        self._hook.remove()


class Distillation(Guide):
    r"""The target learns the guide's outputs: :math:`\lambda T^2 \mathrm{KL}` at temperature T. The guide must have been trained.

    Parameters
    ----------
    weight : :math:`\lambda`. temperature : T.
    """

    paper = Paper("Distilling the Knowledge in a Neural Network", "Hinton et al.", 2015, arxiv="1503.02531")
    summary = "the baseline: a trained guide's logits are learned, not its layers"

    weight: Annotated[float, Field(ge=0)] = 1.0
    temperature: Annotated[float, Field(gt=0)] = 2.0

    def loss(self, target: nn.Module, guide: nn.Module) -> DistillationLoss:
        return DistillationLoss(target, guide, self.weight, self.temperature)
