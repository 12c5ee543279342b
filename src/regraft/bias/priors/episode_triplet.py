"""Baselines on episodes without prototypes: triplets of points, and cross-entropy over the classes that are learned."""

import torch
from pytorch_metric_learning.losses import TripletMarginLoss
from torch import nn

from regraft.bias.episodes.distances import FlooredDistance
from regraft.bias.episodes.encoders import embed, encoder_of
from regraft.bias.episodes.few_shot import Loss
from regraft.bias.learning import fit
from regraft.bias.prior import Learned, Plan
from regraft.bias.priors.prototypical_network import EpisodicPrior, TrainedByEpisodes, learned
from regraft.bias.tasks.task import Task
from regraft.method import Paper


class EpisodeTriplet(TrainedByEpisodes):
    """Queries as anchors, support as positives and negatives, all triplets of the episode (pytorch-metric-learning's loss).

    margin : by which negatives must be further away than positives.
    """

    paper = Paper("FaceNet: A Unified Embedding for Face Recognition and Clustering", "Schroff et al.", 2015, "1503.03832")
    summary = "rival on episodes: triplets of a query and two of the support"

    margin: float = 0.5

    def loss(self) -> Loss:
        own = TripletMarginLoss(margin=self.margin, distance=FlooredDistance())
        return lambda query, y, support, support_y: own(query, y, ref_emb=support, ref_labels=support_y)


class ClassPretraining(EpisodicPrior):
    """A linear head over all classes to learn, thrown away afterwards: cross-entropy on batches as large as the episodes of the others."""

    paper = Paper("A Closer Look at Few-shot Classification", "Chen et al.", 2019, "1904.04232")
    summary = "rival on episodes: ordinary classification, then nearest prototypes"

    def learn(self, task: Task, plan: Plan) -> Learned:
        torch.manual_seed(plan.seed)
        encoder = encoder_of(self.encoder, task.x[0], self.channels)
        width = embed(encoder, task.x[:1]).shape[1]
        model = nn.Sequential(encoder, nn.Linear(width, task.classes))
        batch = self.way * (self.shot + self.queries)
        curve = fit(model, task, Plan(steps=plan.steps, batch=batch, seed=plan.seed), nn.CrossEntropyLoss(), rate=self.rate)
        return learned(encoder, task, curve)
