"""The baseline on episodes: cross-entropy over prototypes."""

from abc import abstractmethod
from typing import Annotated, Literal

import torch
from annotated_types import Ge

from regraft.bias.episodes.encoders import encoder_of
from regraft.bias.episodes.few_shot import Loss, judge, train
from regraft.bias.episodes.losses import ProtoNetLoss
from regraft.bias.learning import learned_numbers
from regraft.bias.prior import Learned, Plan, Prior
from regraft.bias.tasks.task import Task
from regraft.method import Paper

Encoder = Literal["conv-4", "resnet-12"]


class EpisodicPrior(Prior):
    """What methods on episodes share: an encoder, what a training episode holds, Adam's rate.

    encoder, channels : the network. way, shot, queries : of training episodes, an episode a step (``Plan.batch`` is not asked). rate :
    Adam's, halved after each third. The paper trains with 30 classes for one shot and 20 for five, 15 queries, 64 channels, images of 84
    x 84.
    """

    kinds = ("episodes",)
    encoder: Encoder = "conv-4"
    channels: Annotated[int, Ge(1)] = 16
    way: Annotated[int, Ge(2)] = 10
    shot: Annotated[int, Ge(1)] = 1
    queries: Annotated[int, Ge(1)] = 5
    rate: float = 1e-3


class TrainedByEpisodes(EpisodicPrior):
    """Base of methods on episodes that differ by their loss alone."""

    @abstractmethod
    def loss(self) -> Loss:
        """Of queries, their labels, support, its labels."""

    def learn(self, task: Task, plan: Plan) -> Learned:
        torch.manual_seed(plan.seed)
        model = encoder_of(self.encoder, task.x[0], self.channels)
        curve = train(model, task, plan, self.loss(), way=self.way, shot=self.shot, queries=self.queries, rate=self.rate)
        return learned(model, task, curve)


def learned(model: torch.nn.Module, task: Task, curve: list[tuple[float, float]]) -> Learned:
    """Judged on held-out classes, and on 20 classes at once where there are as many."""
    wide = {"accuracy_20_way": float(judge(model, task, 20).mean())} if len(torch.unique(task.y_test)) >= 20 else {}
    return Learned(judge(model, task), learned_numbers(model), model, curve, wide)


class PrototypicalNetwork(TrainedByEpisodes):
    """Prototypical network: softmax over -|q - P_c|^2 / temperature.

    temperature : as above.
    """

    plain_of = ("episodes",)
    paper = Paper("Prototypical Networks for Few-shot Learning", "Snell et al.", 2017, "1703.05175")
    summary = "baseline on episodes: cross-entropy over the prototypes of classes"

    temperature: float = 1.0

    def loss(self) -> Loss:
        own = ProtoNetLoss(self.temperature)
        return lambda query, y, support, support_y: own(query, y, ref_emb=support, ref_labels=support_y)
