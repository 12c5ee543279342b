"""SVDiff: only the singular values of each matrix learn."""

from regraft.concepts.split.assembly import renewed
from regraft.concepts.split.images.pictures import Pictures
from regraft.concepts.split.layers.partition import Partition
from regraft.concepts.split.learner import Backbones, ClassLearner, Ready, learning, shapes
from regraft.concepts.split.model import split_of
from regraft.errors import ParameterError
from regraft.method import Paper


class Svdiff(ClassLearner):
    r"""Each matrix is :math:`U \,\mathrm{diag}(\sigma)\, V^\top` with U and V frozen. It has far fewer parameters than any budget.

    Shifts of the paper are rectified, :math:`\mathrm{ReLU}(\sigma + \delta)`; here :math:`\sigma` itself learns.
    """

    paper = Paper("SVDiff: Compact Parameter Space for Diffusion Fine-Tuning", "Han et al.", 2023, "2303.11305")
    summary = "baseline: only singular values of a plain model's matrices learn"

    def begin(self, backbones: Backbones, pictures: Pictures, budget: int, seed: int) -> Ready:
        plain = renewed(backbones.plain, pictures.names, seed=seed)
        ranks = {min(shape) for shape in shapes(plain)}
        if len(ranks) > 1:
            raise ParameterError(f"svdiff: matrices of ranks {sorted(ranks)}: give --patterns of matrices of one rank")
        return Ready(learning(split_of(plain, Partition(ranks.pop(), ((0, 0),)), shuffled=False), ".learngenes.S"))
