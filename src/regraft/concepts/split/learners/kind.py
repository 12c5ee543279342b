"""KIND: what all classes share stays as it is, each new class gets components of its own."""

from typing import Literal

import torch

from regraft.concepts.split.assembly import renewed
from regraft.concepts.split.images.pictures import Pictures
from regraft.concepts.split.layers.cost import factor_parameters
from regraft.concepts.split.layers.gated import gated
from regraft.concepts.split.learner import Backbones, ClassLearner, Ready, learning
from regraft.concepts.split.model import Split
from regraft.concepts.split.objective import noise_losses
from regraft.errors import ParameterError
from regraft.method import Paper

TRIALS = 4  # passes over at most 64 images by which the nearest class is found


class Kind(ClassLearner):
    r"""Learngenes frozen, fresh tailors trained.

    In training from the start each matrix is :math:`W(c) = U \,\mathrm{diag}(g(c) \odot \sigma)\, V^\top`; the gate is 1 on the learngenes
    and on class c's tailors, so that what all classes share is learned by the ones and what is each one's own by the others. For new
    classes the old tailors are dropped and random ones put in their place; they and vectors of the classes learn, all else is frozen.

    Parameters
    ----------
    tailors : components a class; none: as many as the budget pays. learngenes : "frozen", or "slow" at `slow` times the rate. initial :
        tailors begin "random", or as those of the "nearest" old class, by the loss of its tailors on the new images (they must be of the
        size that the model has).
    """

    paper = Paper("KIND: Knowledge Integration and Diversion for Training Decomposable Models", "Xie et al.", 2025, "2408.07337")
    summary = "what classes share is frozen, each new class gets components of its own"

    tailors: int | None = None
    learngenes: Literal["frozen", "slow"] = "frozen"
    slow: float = 0.05
    initial: Literal["random", "nearest"] = "random"

    def begin(self, backbones: Backbones, pictures: Pictures, budget: int, seed: int) -> Ready:
        old = backbones.gated
        if old.partition is None:
            raise ParameterError("kind needs a model with learngenes and tailors: train one with `regraft concept split train`")
        layers = gated(old.transformer).values()
        each = factor_parameters([(one.out_features, one.in_features) for one in layers], 1)
        size = self.tailors or max(1, round(budget / each / len(pictures.names)))
        like = nearest(old, pictures, seed) if self.initial == "nearest" else []
        if like:
            size = old.partition.families[0][1]
        new = renewed(old, pictures.names, tailors=size, like=like, seed=seed)
        parts = (".tailors.", ".learngenes.") if self.learngenes == "slow" else (".tailors.",)
        learning(new, *parts)
        names = [name for name, _ in new.transformer.named_parameters() if ".learngenes." in name]
        return Ready(new, dict.fromkeys(names, self.slow) if self.learngenes == "slow" else {})


@torch.no_grad()
def nearest(old: Split, pictures: Pictures, seed: int) -> list[int]:
    """For each class of `pictures` the old class whose tailors predict the noise of its images best."""
    found = []
    for label in range(len(pictures.names)):
        images = pictures.images[pictures.labels == label][:64].repeat(TRIALS, 1, 1, 1)
        losses = []
        for known in range(len(old.names)):
            generator = torch.Generator().manual_seed(seed)
            labels = torch.full((len(images),), known)
            losses.append(float(noise_losses(old.transformer, old.scheduler, images, labels, generator).mean()))
        found.append(min(range(len(losses)), key=losses.__getitem__))
    return found
