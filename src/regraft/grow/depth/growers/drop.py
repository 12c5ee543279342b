"""Layer drop: evenly spaced layers stay."""

from regraft.errors import ParameterError
from regraft.grow.depth.gene import Gene
from regraft.grow.depth.grower import DepthGrower
from regraft.grow.depth.plan import Plan
from regraft.method import Paper


class Drop(DepthGrower):
    r"""Keeps evenly spaced layers, the first and the last among them (DistilBERT starts a student so).

    Layer i of n is old layer :math:`\mathrm{round}(i (L-1)/(n-1))`; a single layer is the first.

    Returns a checkpoint whose layers are those of the plan, weights (new layers, old layers).

    Raises `ParameterError` for more layers than there are.
    """

    paper = Paper("DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter", "Sanh et al.", 2019, arxiv="1910.01108")
    summary = "evenly spaced layers stay"

    def plan(self, gene: Gene, depth: int) -> Plan:
        count = gene.stack.depth
        if depth > count:
            raise ParameterError(f"drop: --layers {depth}: it only leaves out, and the model has {count}: choose copy, stack or zero-block")
        return Plan.copies([round(layer * (count - 1) / max(depth - 1, 1)) for layer in range(depth)], count)
