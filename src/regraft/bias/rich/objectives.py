r"""Objectives that ask for what holds in all environments, and the training of a network or of its head alone by one of them.

Total = sum over environments of the mean loss L_e + l2 |theta|^2 + weight P; with a weight above 1 the total is divided by it, which keeps
Adam's steps as they are. P of each objective is a function of its name here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from regraft.bias.rich.construction import environments
from regraft.bias.rich.groups import GroupDRO
from regraft.bias.rich.networks import Descent, Network, descend, features, guess, losses_of
from regraft.errors import ParameterError

Name = Literal["erm", "irm", "vrex", "sd", "iga", "fishr", "clove", "groupdro"]
CALIBRATED, WIDTH = 512, 0.4  # examples of an environment that calibration is taken on, and the width of its kernel
ANNEALED_SD = 500
USUAL_WEIGHT = {"irm": 1e4, "vrex": 1e4, "sd": 100.0, "iga": 1e4, "fishr": 1e4, "clove": 1e4}  # the middle of the authors' range


@dataclass(frozen=True, eq=False)
class Seen:
    """One environment in one step: features (n, d), logits (n, c), classes (n,), mean loss."""

    rows: Tensor
    logits: Tensor
    y: Tensor
    loss: Tensor


def slopes(logits: Tensor, y: Tensor) -> Tensor:
    """(n, c) gradients of each example's loss by its logits."""
    if logits.shape[1] == 1:
        return logits.sigmoid() - y[:, None].to(logits.dtype)
    return logits.softmax(1) - one_hot(y, logits.shape[1]).to(logits.dtype)


def irm(seen: Sequence[Seen]) -> Tensor:
    """IRMv1: mean over environments of the squared slope of L_e(s z) by s at s = 1."""
    return torch.stack([(slopes(one.logits, one.y) * one.logits).sum(1).mean().square() for one in seen]).mean()


def vrex(seen: Sequence[Seen]) -> Tensor:
    """Variance of the L_e, unbiased."""
    return torch.stack([one.loss for one in seen]).var()


def sd(seen: Sequence[Seen]) -> Tensor:
    """Spectral decoupling: mean squared logits, summed over environments."""
    return torch.stack([one.logits.square().mean() for one in seen]).sum()


def iga(seen: Sequence[Seen], learning: Sequence[nn.Parameter]) -> Tensor:
    """Squared distances of the environments' gradients to their mean, which is held fixed."""
    grads = [torch.cat([one.flatten() for one in torch.autograd.grad(each.loss, learning, create_graph=True)]) for each in seen]
    mean = torch.stack(grads).mean(0).detach()
    return torch.stack([(one - mean).square().sum() for one in grads]).sum()


def fishr(seen: Sequence[Seen]) -> Tensor:
    """Squared distances of v_e to their mean: v_e are mean squares of the examples' gradients by the head, not centered."""
    found = []
    for one in seen:
        squares = slopes(one.logits, one.y).square()
        found.append(torch.cat([(squares.T @ one.rows.square() / len(squares)).flatten(), squares.mean(0)]))
    v = torch.stack(found)
    return (v - v.mean(0)).square().sum()


def clove(seen: Sequence[Seen]) -> Tensor:
    """Calibration in each environment (MMCE): mean over pairs of (c_i - r_i)(c_j - r_j) exp(-|r_i - r_j| / 0.4), summed."""
    return torch.stack([calibration(one.logits, one.y) for one in seen]).sum()


def calibration(logits: Tensor, y: Tensor) -> Tensor:
    """MMCE of confidences r in the predicted class, and whether it is right, c."""
    p = logits[:, 0].sigmoid() if logits.shape[1] == 1 else logits.softmax(1).amax(1)
    r = torch.maximum(p, 1 - p) if logits.shape[1] == 1 else p
    off = (guess(logits.detach()) == y).to(r.dtype) - r
    kernel = (-(r[:, None] - r).abs() / WIDTH).exp()
    return off @ kernel @ off / len(y) ** 2


PENALTIES: dict[str, Callable[[Sequence[Seen]], Tensor]] = {"irm": irm, "vrex": vrex, "sd": sd, "fishr": fishr, "clove": clove}


@dataclass(frozen=True, kw_only=True)
class Objective:
    """`name`, its `weight` lambda, and steps during which the weight is 1 (`anneal`); groupdro and erm have no weight.

    The authors search weights 1e3 to 1e5 (sd 10 to 1000) on ColoredMNIST, where they take no annealing. With it, sd is divided by 500 more.
    """

    name: Name = "vrex"
    weight: float = 1e4
    anneal: int = 0


def tune(
    network: Network,
    x: Tensor,
    y: Tensor,
    environment: Tensor,
    objective: Objective,
    *,
    steps: int,
    frozen: bool = False,
    how: Descent | None = None,
) -> list[tuple[float, float]]:
    """Train a network in place by `objective`; `frozen` ("cf"): its head alone, on features that are computed once.

    `environment` (n,) names each example's. l2 is of what learns. Raises `ParameterError` for one environment, but for erm.
    """
    how = replace(how or Descent(), batch=None)
    if objective.weight < 0:
        raise ParameterError(f"{objective.name}: weight {objective.weight}: give 0 or more")
    names = [0] if objective.name == "erm" else environments(environment)
    parts = [torch.ones_like(y, dtype=torch.bool)] if objective.name == "erm" else [environment == one for one in names]
    head = network.heads[0]
    network.train(not frozen)
    inputs = features(network.encoder, x) if frozen else x
    learning = list(head.parameters() if frozen else (*network.encoder.parameters(), *head.parameters()))
    draw, dro, at = torch.Generator().manual_seed(how.seed), GroupDRO(len(parts), how.eta), iter(range(steps))
    whole = [(inputs[part], y[part]) for part in parts]

    def look(given: Tensor, labels: Tensor) -> Seen:
        rows = given if frozen else network.encoder(given)
        logits = head(rows)
        return Seen(rows, logits, labels, losses_of(logits, labels).mean())

    def loss() -> Tensor:
        seen = [look(*each) for each in whole]
        plain = torch.stack([one.loss for one in seen])
        size = how.l2 * torch.stack([one.square().sum() for one in learning]).sum()
        if objective.name == "erm":
            return plain.sum() + size
        if objective.name == "groupdro":
            return dro(plain) + size
        return combined(plain.sum() + size, penalty(seen), next(at))

    def penalty(seen: list[Seen]) -> Tensor:
        if objective.name == "iga":
            return iga(seen, learning)
        if objective.name == "clove":
            return clove([some(one) for one in seen])
        return PENALTIES[objective.name](seen)

    def some(one: Seen) -> Seen:
        picked = torch.randperm(len(one.y), generator=draw)[:CALIBRATED]
        return Seen(one.rows, one.logits[picked], one.y[picked], one.loss)

    def combined(plain: Tensor, found: Tensor, step: int) -> Tensor:
        weight = objective.weight if step >= objective.anneal else 1.0
        annealed = objective.name == "sd" and objective.anneal
        return (plain + weight * found) / (max(weight, 1.0) * (ANNEALED_SD if annealed else 1))

    return descend(learning, loss, steps, replace(how, l2=0.0), f"{objective.name}{', head alone' if frozen else ''}")
