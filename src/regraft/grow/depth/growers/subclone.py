"""Weight subcloning in depth: the layers in the middle are left out."""

from regraft.errors import ParameterError
from regraft.grow.depth.gene import Gene
from regraft.grow.depth.grower import DepthGrower
from regraft.grow.depth.plan import Plan
from regraft.method import Paper


class Subclone(DepthGrower):
    r"""Leaves out layers around the middle, which change the least (the depth part of weight subcloning).

    Of L layers the first :math:`\lceil n/2\rceil` and the last :math:`\lfloor n/2\rfloor` stay as they are. The width part is the method of
    the same name of `regraft grow width`.

    Returns a checkpoint whose layers are those of the plan, weights (new layers, old layers).

    Raises `ParameterError` for more layers than there are.
    """

    paper = Paper(
        "Weight subcloning: direct initialization of transformers using larger pretrained ones", "Samragh et al.", 2023, arxiv="2312.09299"
    )
    summary = "the layers around the middle are left out"

    def plan(self, gene: Gene, depth: int) -> Plan:
        count = gene.stack.depth
        if depth > count:
            raise ParameterError(
                f"subclone: --layers {depth}: it only leaves out, and the model has {count}: choose copy, stack or zero-block"
            )
        front = -(-depth // 2)
        return Plan.copies([*range(front), *range(count - (depth - front), count)], count)
