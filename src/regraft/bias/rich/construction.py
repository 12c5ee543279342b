r"""Discovery and synthesis (sections 3 and 4 of the paper's method): an encoder that holds the features of several short trainings.

Round 0 is plain training, stopped early. Each later round starts anew and is trained on the worst of the groups {right, wrong} of *every*
earlier round, so that it cannot lean on what those used. Synthesis trains one new encoder with a head a round on the rounds' hard
predictions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from regraft.bias.rich.groups import GroupBatches, GroupDRO, means_of_batch, worst_group
from regraft.bias.rich.networks import Descent, MakeEncoder, Network, descend, fresh, guess, losses_of, predict
from regraft.errors import ParameterError
from regraft.progress import console, step

Balance = Literal["agree", "right", "none"]


@dataclass(frozen=True, eq=False)
class Round:
    """What one round of discovery found.

    predictions : (n,) classes. correct : (n,) bool. accuracy : on all training examples. worst : accuracy in its worst group (round 0: on
    all). network : as it was trained.
    """

    predictions: Tensor
    correct: Tensor
    accuracy: float
    worst: float
    network: Network


@dataclass(frozen=True, eq=False)
class RichFeatures:
    """The encoder, a head a round, and the rounds that it was made from. `stopped` says why discovery ended early, or nothing."""

    encoder: nn.Module
    heads: list[nn.Linear]
    rounds: list[Round]
    stopped: str = ""

    @property
    def head(self) -> nn.Linear:
        """The mean of all heads: where training on the task starts."""
        return averaged(self.heads)

    def agreement(self) -> Tensor:
        """(rounds, rounds) share of training examples that two rounds predict alike."""
        guesses = torch.stack([one.predictions for one in self.rounds])
        return (guesses[:, None] == guesses).double().mean(2)

    def accuracy_by(self, environment: Tensor) -> dict[int, list[float]]:
        """Of each environment (n,), the accuracy of each round on its training examples."""
        return {
            int(one): [float(found.correct[environment == one].double().mean()) for found in self.rounds]
            for one in torch.unique(environment)
        }


def rich_features(
    make_encoder: MakeEncoder,
    x: Tensor,
    y: Tensor,
    *,
    rounds: int = 2,
    first_steps: int = 51,
    round_steps: int = 501,
    synthesis_steps: int = 501,
    balance: Balance = "agree",
    stop_at_chance: bool = True,
    how: Descent | None = None,
) -> RichFeatures:
    """An encoder with the features of `rounds` rounds, of examples `x` (n, ...) and classes `y` (n,) from 0 on. No environments are needed.

    Parameters
    ----------
    make_encoder : a new module with random weights at each call, (n, ...) -> (n, d).
    first_steps : of round 0, which is to take the easiest feature only. round_steps, synthesis_steps : of later rounds, and of synthesis.
    balance : how synthesis draws: half from examples on which all rounds are right or all wrong ("agree"), half from those on which all are
        right ("right"), or as they come ("none").
    stop_at_chance : a round that is no better than chance or a constant answer in its worst group found nothing, and ends discovery
        (INFERRED: the paper fixes the number of rounds by hand).

    Raises `ParameterError`: fewer than two classes, labels of another length, no rounds.
    """
    how = how or Descent()
    classes = check(x, y, rounds)
    found, stopped = discover(make_encoder, x, y, classes, rounds, (first_steps, round_steps), how, stop_at_chance)
    with step(f"synthesis of {len(found)} round(s)"):
        network = synthesize(make_encoder, x, [one.predictions for one in found], y, classes, synthesis_steps, balance, how)
    return RichFeatures(network.encoder, [cast(nn.Linear, head) for head in network.heads], found, stopped)


def check(x: Tensor, y: Tensor, rounds: int = 1) -> int:
    """How many classes there are."""
    if len(x) != len(y) or not len(x):
        raise ParameterError(f"{len(x)} examples with {len(y)} classes: give one each")
    if rounds < 1:
        raise ParameterError(f"--rounds {rounds}: ask for 1 or more")
    if len(torch.unique(y)) < 2:
        raise ParameterError("all examples are of one class: there is nothing to predict")
    if x.is_floating_point() and not bool(x.isfinite().all()):
        raise ParameterError("examples hold numbers that are not finite: remove them")
    return int(y.max()) + 1


def discover(
    make_encoder: MakeEncoder, x: Tensor, y: Tensor, classes: int, rounds: int, steps: tuple[int, int], how: Descent, stop_at_chance: bool
) -> tuple[list[Round], str]:
    """The rounds, and why they ended early if they did."""
    found: list[Round] = []
    for number in range(rounds):
        groups = [mask for one in found for mask in (one.correct, ~one.correct)]
        if empty := [at // 2 for at, mask in enumerate(groups) if not bool(mask.any())]:
            stopped = f"round {empty[0]} is right everywhere, or nowhere: no group is left to exclude it by; train it for fewer steps"
            console.print(f"  {stopped}", style="yellow", highlight=False)
            return found, stopped
        with step(f"discovery, round {number}"):
            network = fresh(make_encoder, x, classes, how.seed + 1000 * number)
            train_groups(network, x, y, groups or [torch.ones_like(y, dtype=torch.bool)], steps[min(number, 1)], how)
        guesses = predict(network, x)
        right = guesses == y
        worst = min((float(right[mask].double().mean()) for mask in groups), default=float(right.double().mean()))
        if stop_at_chance and number and worst <= chance(y, groups, classes):
            stopped = f"round {number} is right on {worst:.0%} of its worst group, no more than chance: no new feature"
            console.print(f"  {stopped}", style="yellow", highlight=False)
            return found, stopped
        found.append(Round(guesses, right, float(right.double().mean()), worst, network))
    return found, ""


def chance(y: Tensor, groups: Sequence[Tensor], classes: int) -> float:
    """The worst group's accuracy that needs no feature: of a coin or the best constant answer, and two standard errors."""
    shares = torch.stack([torch.bincount(y[mask], minlength=classes) / mask.sum() for mask in groups])
    smallest = min(int(mask.sum()) for mask in groups)
    return float(max(1 / classes, float(shares.amin(0).max())) + 1 / smallest**0.5)


def train_groups(network: Network, x: Tensor, y: Tensor, groups: Sequence[Tensor], steps: int, how: Descent) -> list[tuple[float, float]]:
    """Train on the worst of `groups`: of all examples at once, or in batches by weights of groups."""
    network.train()
    if how.batch is None:
        return descend(list(network.parameters()), lambda: worst_group(losses_of(network(x), y), groups), steps, how, "worst group")
    batches, dro = GroupBatches(groups, how.batch, how.seed), GroupDRO(len(groups), how.eta)

    def loss() -> Tensor:
        picked, group = batches()
        return dro(means_of_batch(losses_of(network(x[picked]), y[picked]), group, len(groups)))

    return descend(list(network.parameters()), loss, steps, how, "worst group")


def synthesize(
    make_encoder: MakeEncoder, x: Tensor, teachers: list[Tensor], y: Tensor, classes: int, steps: int, balance: Balance, how: Descent
) -> Network:
    """A new encoder with a head a teacher, trained on the teachers' predictions (n,); `y` only says which examples are drawn."""
    network = fresh(make_encoder, x, classes, how.seed + 999_000, len(teachers))
    network.train()
    sides = balanced(teachers, y, balance)
    if how.batch is None:
        picked = draw_balanced(sides, len(x), how.seed) if len(sides) > 1 else torch.arange(len(x))
        batches = None
    else:
        batches = GroupBatches(sides, how.batch, how.seed)

    def loss() -> Tensor:
        chosen = picked if batches is None else batches()[0]
        rows = network.encoder(x[chosen])
        each = [losses_of(head(rows), own[chosen]).mean() for head, own in zip(network.heads, teachers, strict=True)]
        return torch.stack(each).mean()

    descend(list(network.parameters()), loss, steps, how, "synthesis")
    return network


def balanced(teachers: Sequence[Tensor], y: Tensor, balance: Balance) -> list[Tensor]:
    """Masks (n,) of the sides that are drawn from alike, without an empty one."""
    right = torch.stack([one == y for one in teachers])
    if balance == "none":
        return [torch.ones_like(y, dtype=torch.bool)]
    first = right.all(0) | (~right).all(0) if balance == "agree" else right.all(0)
    return [side for side in (first, ~first) if bool(side.any())]


def draw_balanced(sides: Sequence[Tensor], count: int, seed: int) -> Tensor:
    """About `count` indices with replacement, as many from each side."""
    draw = torch.Generator().manual_seed(seed)
    members = [torch.nonzero(side)[:, 0] for side in sides]
    return torch.cat([own[torch.randint(len(own), (count // len(sides),), generator=draw)] for own in members])


def averaged(heads: Sequence[nn.Linear]) -> nn.Linear:
    """The head whose weights and biases are the means of `heads`."""
    head = nn.Linear(heads[0].in_features, heads[0].out_features)
    with torch.no_grad():
        head.weight.copy_(torch.stack([one.weight for one in heads]).mean(0))
        head.bias.copy_(torch.stack([one.bias for one in heads]).mean(0))
    return head


def predict_then_interpolate(
    make_encoder: MakeEncoder,
    x: Tensor,
    y: Tensor,
    environment: Tensor,
    *,
    first_steps: int = 501,
    steps: int = 501,
    how: Descent | None = None,
) -> Network:
    """PI: a network an environment, and one on the worst of the groups that those split *other* environments into, right and wrong.

    It takes the second easiest feature for the one that holds everywhere. Raises `ParameterError` for one environment alone.
    """
    how = how or Descent()
    classes, names = check(x, y), environments(environment)
    groups: list[Tensor] = []
    for number, one in enumerate(names):
        own = environment == one
        with step(f"environment {one}"):
            network = fresh(make_encoder, x, classes, how.seed + 1000 * number)
            train_groups(network, x[own], y[own], [torch.ones_like(y[own], dtype=torch.bool)], first_steps, how)
        right = predict(network, x) == y
        others = [environment == other for other in names if other != one]
        groups += [mask for away in others for mask in (away & right, away & ~right) if bool(mask.any())]
    with step("worst group across environments"):
        network = fresh(make_encoder, x, classes, how.seed + 999_000)
        train_groups(network, x, y, groups, steps, how)
    return network


def environments(environment: Tensor) -> list[int]:
    """The names of two environments or more; `ParameterError` for one alone."""
    names: list[int] = torch.unique(environment).tolist()
    if len(names) < 2:
        raise ParameterError(f"all examples are of environment {names[0]}: what should hold everywhere needs examples of two or more")
    return names


__all__ = ["RichFeatures", "Round", "guess", "predict_then_interpolate", "rich_features"]
