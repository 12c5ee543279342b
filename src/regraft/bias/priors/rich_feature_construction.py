"""Rich feature construction: rounds that may not lean on each other's features, put into one encoder, then an invariance objective."""

import copy
from typing import Annotated

from annotated_types import Ge

from regraft.bias.prior import Plan
from regraft.bias.priors.environments import BONSAI, EnvironmentPrior
from regraft.bias.rich.construction import Balance, RichFeatures, rich_features
from regraft.bias.rich.networks import Descent, Network
from regraft.bias.rich.objectives import Name, Objective, tune
from regraft.bias.tasks.task import Task


class RichFeatureConstruction(EnvironmentPrior):
    """Discovery, synthesis, then an objective on the head alone (RFC(cf)) or on all weights (RFC).

    rounds : of discovery. objective : irm, vrex, sd, iga, fishr, clove, groupdro or erm. weight : of its penalty. frozen : the head alone
    learns. first_steps : of round 0, which must have taken the easiest feature only (51 on ColoredMNIST, 151 on its inverse). round_steps :
    of later rounds. synthesis_steps : of synthesis. balance : how synthesis draws. batch : None for all examples at once; else group
    weights, the authors' way on large data. eta : their step.
    """

    paper = BONSAI
    summary = "environments: features found in rounds, then a penalty on their head"

    rounds: Annotated[int, Ge(1)] = 2
    first_steps: Annotated[int, Ge(1)] = 51
    round_steps: Annotated[int, Ge(1)] = 501
    synthesis_steps: Annotated[int, Ge(1)] = 501
    balance: Balance = "agree"
    batch: Annotated[int, Ge(2)] | None = None
    eta: float = 0.01
    objective: Name = "vrex"
    weight: Annotated[float, Ge(0)] = 1e4
    frozen: bool = True

    def descent(self, plan: Plan) -> Descent:
        return Descent(rate=self.rate, l2=self.l2, batch=self.batch, eta=self.eta, seed=plan.seed)

    def construct(self, task: Task, plan: Plan) -> RichFeatures:
        """Discovery and synthesis alone; no environment is looked at."""
        return rich_features(
            self.maker(task),
            task.x,
            task.y,
            rounds=self.rounds,
            first_steps=self.first_steps,
            round_steps=self.round_steps,
            synthesis_steps=self.synthesis_steps,
            balance=self.balance,
            how=self.descent(plan),
        )

    def train(self, task: Task, plan: Plan) -> tuple[Network, list[tuple[float, float]]]:
        rich = self.construct(task, plan)
        return self.finish(rich, task, plan)

    def finish(self, rich: RichFeatures, task: Task, plan: Plan) -> tuple[Network, list[tuple[float, float]]]:
        """The objective on what was constructed, from the averaged head."""
        network = Network(copy.deepcopy(rich.encoder), [rich.head])
        objective = Objective(name=self.objective, weight=self.weight)
        where = task.extra["environment"]
        return network, tune(network, task.x, task.y, where, objective, steps=plan.steps, frozen=self.frozen, how=self.descent(plan))
