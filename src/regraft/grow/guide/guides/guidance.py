"""Guidance: hidden layers of a network that would not train are drawn to those of one that does."""

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from regraft.grow.guide.guide import Guide
from regraft.grow.guide.loss import GuidanceLoss
from regraft.method import Paper


class Guidance(Guide):
    r"""Layer-wise alignment to a guide, which may be trained or at random.

    Loss: task's cross entropy + :math:`\lambda \sum_{i} d(X_i, Y_i)` over pairs of layers, a plain sum; features are what parametrised
    layers put out before activation and norm, the logits left out; :math:`d` is 1 - linear CKA (biased) of features flattened over all but
    the batch. The target's one forward pass serves both losses (the released code runs it twice).

    Parameters
    ----------
    weight : :math:`\lambda`, 1.
    distance : cka; rsa (Pearson correlation of cosines); ridge (closed-form residual: inferred).
    collision : where a guide has more layers than the target: last (as released), mean, sum.
    guide_mode : eval (the released image code); train (its notebook): batch statistics and dropout, buffers drift.
    stop : steps after which the guide goes, 300 in the paper's guidance as initialization; none: it stays.
    noise : the guide sees noise. shuffle : the guide sees another order of the batch, a control that must bring nothing.
    tokens : flatten time into features, or each token apart.
    """

    paper = Paper(
        "Training the Untrainable: Introducing Inductive Bias via Representational Alignment", "Subramaniam et al.", 2025, "2410.20035"
    )
    summary = "draws the layers of a network to those of a guide while it learns"

    weight: Annotated[float, Field(ge=0)] = 1.0
    distance: Literal["cka", "rsa", "ridge"] = "cka"
    collision: Literal["last", "mean", "sum"] = "last"
    guide_mode: Literal["eval", "train"] = "eval"
    stop: Annotated[int, Field(ge=1)] | None = None
    noise: bool = False
    shuffle: bool = False
    tokens: Literal["flatten", "each"] = "flatten"

    def loss(self, target: nn.Module, guide: nn.Module) -> GuidanceLoss:
        return GuidanceLoss(
            target,
            guide,
            distance=self.distance,
            weight=self.weight,
            collision=self.collision,
            guide_mode=self.guide_mode,
            stop=self.stop,
            noise=self.noise,
            shuffle=self.shuffle,
            tokens=self.tokens,
        )
