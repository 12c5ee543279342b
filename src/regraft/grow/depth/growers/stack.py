"""Stacking: the whole stack of layers again, or its last layers, or each layer in its place."""

from typing import Literal

from regraft.errors import ParameterError
from regraft.grow.depth.gene import Gene
from regraft.grow.depth.grower import DepthGrower
from regraft.grow.depth.plan import Plan
from regraft.method import Paper


class Stack(DepthGrower):
    r"""Repeats layers to grow (StackBERT, gradual stacking).

    order : "whole" repeats the stack, layer i being old layer i mod L (StackBERT, section 3.2); "last" appends copies of the last block of
        n - L layers (gradual stacking, MIDAS takes the middle); "in-place" repeats each layer where it stands,
        :math:`\lfloor iL/n\rfloor`.

    Returns a checkpoint whose layers are those of the plan, weights (new layers, old layers).

    Raises `ParameterError` for fewer layers than there are.
    """

    paper = Paper(
        "Efficient Training of BERT by Progressively Stacking", "Gong et al.", 2019, url="https://proceedings.mlr.press/v97/gong19a.html"
    )
    summary = "the stack of layers repeated"

    order: Literal["whole", "last", "in-place"] = "whole"

    def plan(self, gene: Gene, depth: int) -> Plan:
        count = gene.stack.depth
        if depth < count:
            raise ParameterError(
                f"stack: --layers {depth}: it repeats layers, and the model has {count} already: choose drop, copy or short-gpt"
            )
        if self.order == "whole":
            sources = [layer % count for layer in range(depth)]
        elif self.order == "in-place":
            sources = [layer * count // depth for layer in range(depth)]
        else:
            sources = list(range(count))
            while len(sources) < depth:
                sources += sources[-min(count, depth - len(sources)) :]
        return Plan.copies(sources, count)
