"""PiSSA: low-rank adapters that begin as the largest singular components of each matrix, by peft."""

from regraft.concepts.split.assembly import renewed
from regraft.concepts.split.images.pictures import Pictures
from regraft.concepts.split.learner import Backbones, ClassLearner, Ready, adapter
from regraft.method import Paper


class Pissa(ClassLearner):
    r"""As LoRA, but B A begins as the r largest singular components of W, and what is frozen is the rest of W."""

    paper = Paper("PiSSA: Principal Singular Values and Singular Vectors Adaptation", "Meng et al.", 2024, "2404.02948")
    summary = "baseline: as lora, begun as each matrix's largest components, by peft"

    def begin(self, backbones: Backbones, pictures: Pictures, budget: int, seed: int) -> Ready:
        return Ready(adapter(renewed(backbones.plain, pictures.names, seed=seed), budget, init_lora_weights="pissa"))
