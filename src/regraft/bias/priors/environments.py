"""The baseline on environments, and rivals: plain training, an objective from a random or a trained start, predict-then-interpolate."""

from abc import abstractmethod
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge

from regraft.bias.learning import learned_numbers
from regraft.bias.prior import Learned, Plan, Prior
from regraft.bias.rich.construction import environments, predict_then_interpolate
from regraft.bias.rich.networks import Descent, MakeEncoder, Network, fresh, mlp, predict
from regraft.bias.rich.objectives import Name, Objective, tune
from regraft.bias.tasks.task import Task
from regraft.method import Paper

BONSAI = Paper("Rich Feature Construction for the Optimization-Generalization Dilemma", "Zhang et al.", 2022, "2203.15516")


class EnvironmentPrior(Prior):
    """What methods on environments share: two hidden layers, and Adam on all examples at once.

    hidden : units of a layer (the paper's 390). rate : of Adam. l2 : weight of the squared length of all weights.

    ``Plan.steps`` are those of the last stage; ``Plan.batch`` is not asked. No setting is selected on held-out examples.
    """

    kinds = ("environments",)
    hidden: Annotated[int, Ge(1)] = 390
    rate: float = 5e-4
    l2: Annotated[float, Ge(0)] = 0.0011

    def descent(self, plan: Plan) -> Descent:
        return Descent(rate=self.rate, l2=self.l2, seed=plan.seed)

    def maker(self, task: Task) -> MakeEncoder:
        return lambda: mlp(task.x[0].numel(), self.hidden)

    def network(self, task: Task, plan: Plan) -> Network:
        return fresh(self.maker(task), task.x, task.classes, plan.seed)

    def learn(self, task: Task, plan: Plan) -> Learned:
        environments(task.extra["environment"])
        network, curve = self.train(task, plan)
        return judged(network, task, curve)

    @abstractmethod
    def train(self, task: Task, plan: Plan) -> tuple[Network, list[tuple[float, float]]]:
        """The trained network, and its curve."""


def judged(network: Network, task: Task, curve: list[tuple[float, float]]) -> Learned:
    """Scores in the held-out environment where the network is worst; the accuracy in each is a fact."""
    right, where = (predict(network, task.x_test) == task.y_test).double(), task.extra["environment_test"]
    found = {int(one): right[where == one] for one in torch.unique(where)}
    worst = min(found.values(), key=lambda one: float(one.mean()))
    facts = {f"accuracy_{name}": float(one.mean()) for name, one in found.items()}
    return Learned(np.asarray(worst.numpy()), learned_numbers(network), network, curve, facts)


class PooledTraining(EnvironmentPrior):
    """Empirical risk over all environments together."""

    plain_of = ("environments",)
    paper = Paper("Principles of Risk Minimization for Learning Theory", "Vapnik", 1991, url="https://papers.nips.cc/paper/1991")
    summary = "baseline on environments: plain training on all of them together"

    def train(self, task: Task, plan: Plan) -> tuple[Network, list[tuple[float, float]]]:
        network = self.network(task, plan)
        curve = tune(network, task.x, task.y, task.extra["environment"], Objective(name="erm"), steps=plan.steps, how=self.descent(plan))
        return network, curve


class InvariantTraining(EnvironmentPrior):
    """An objective from a start without constructed features.

    objective : irm, vrex, sd, iga, fishr, clove or groupdro. weight : of its penalty. start : "random" weights, or plain training ("erm").
    first_steps : of plain training. frozen : the head alone learns.
    """

    paper = Paper("Out-of-Distribution Generalization via Risk Extrapolation (REx)", "Krueger et al.", 2020, "2003.00688")
    summary = "rival on environments: an invariance penalty from usual starts"

    objective: Name = "vrex"
    weight: Annotated[float, Ge(0)] = 1e4
    start: Literal["random", "erm"] = "random"
    first_steps: Annotated[int, Ge(1)] = 301
    frozen: bool = False

    def train(self, task: Task, plan: Plan) -> tuple[Network, list[tuple[float, float]]]:
        network, how, where = self.network(task, plan), self.descent(plan), task.extra["environment"]
        if self.start == "erm":
            tune(network, task.x, task.y, where, Objective(name="erm"), steps=self.first_steps, how=how)
        objective = Objective(name=self.objective, weight=self.weight)
        return network, tune(network, task.x, task.y, where, objective, steps=plan.steps, frozen=self.frozen, how=how)


class PredictThenInterpolate(EnvironmentPrior):
    """PI: networks of single environments split each other's examples into right and wrong; one network is trained on the worst group.

    first_steps : of each environment's network; ``Plan.steps`` are those of the last.
    """

    paper = Paper("Predict then Interpolate: A Simple Algorithm to Learn Stable Classifiers", "Bao et al.", 2021, "2105.12628")
    summary = "rival on environments: the worst of groups by mistakes of others"

    first_steps: Annotated[int, Ge(1)] = 301

    def train(self, task: Task, plan: Plan) -> tuple[Network, list[tuple[float, float]]]:
        how, where = self.descent(plan), task.extra["environment"]
        return predict_then_interpolate(
            self.maker(task), task.x, task.y, where, first_steps=self.first_steps, steps=plan.steps, how=how
        ), []
