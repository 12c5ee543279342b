"""LoRA: a low-rank change of each matrix of a plain model, by peft."""

from regraft.concepts.split.assembly import renewed
from regraft.concepts.split.images.pictures import Pictures
from regraft.concepts.split.learner import Backbones, ClassLearner, Ready, adapter
from regraft.method import Paper


class Lora(ClassLearner):
    r"""Each matrix becomes :math:`W + B A` of rank r, with B = 0 at first; W is frozen. The scale is 1 (alpha = r)."""

    paper = Paper("LoRA: Low-Rank Adaptation of Large Language Models", "Hu et al.", 2022, "2106.09685")
    summary = "baseline: low-rank changes of a plain model's matrices, by peft"

    def begin(self, backbones: Backbones, pictures: Pictures, budget: int, seed: int) -> Ready:
        return Ready(adapter(renewed(backbones.plain, pictures.names, seed=seed), budget))
