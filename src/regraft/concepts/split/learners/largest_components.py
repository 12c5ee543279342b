"""KIND without its training: what is frozen are the largest components of a plain model."""

from regraft.concepts.split.assembly import renewed
from regraft.concepts.split.images.pictures import Pictures
from regraft.concepts.split.layers.cost import factor_parameters
from regraft.concepts.split.layers.partition import Partition
from regraft.concepts.split.learner import Backbones, ClassLearner, Ready, learning, shapes
from regraft.concepts.split.model import bare, split_of
from regraft.errors import ParameterError
from regraft.method import Paper


class LargestComponents(ClassLearner):
    r"""As many components as the gated model has learngenes, but the largest of a plain model's matrices, frozen; fresh tailors learn.

    Beside `kind` it says what training with a gate gave: "without diversion".
    """

    paper = Paper("KIND: Knowledge Integration and Diversion for Training Decomposable Models", "Xie et al.", 2025, "2408.07337")
    summary = "baseline: as kind, but what is frozen are a plain model's largest components"

    def begin(self, backbones: Backbones, pictures: Pictures, budget: int, seed: int) -> Ready:
        if backbones.gated.partition is None:
            raise ParameterError("largest-components takes as many as a gated model has learngenes: give one")
        size = max(1, round(budget / factor_parameters(shapes(backbones.plain), 1) / len(pictures.names)))
        cut = split_of(bare(backbones.plain), Partition(backbones.gated.partition.learngenes, ((0, 0),)), shuffled=False)
        return Ready(learning(renewed(cut, pictures.names, tailors=size, seed=seed), ".tailors."))
