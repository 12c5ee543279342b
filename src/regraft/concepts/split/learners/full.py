"""Full fine-tuning: everything learns."""

from regraft.concepts.split.assembly import renewed
from regraft.concepts.split.images.pictures import Pictures
from regraft.concepts.split.learner import Backbones, ClassLearner, Ready, learning
from regraft.method import Paper


class Full(ClassLearner):
    """All parameters of a plain model, whatever the budget: what one does without a method."""

    paper = Paper("Scalable Diffusion Models with Transformers", "Peebles, Xie", 2023, "2212.09748")
    summary = "baseline: all parameters of a plain model learn, whatever the budget"
    lr: float = 1e-3

    def begin(self, backbones: Backbones, pictures: Pictures, budget: int, seed: int) -> Ready:
        return Ready(learning(renewed(backbones.plain, pictures.names, seed=seed), ""))
