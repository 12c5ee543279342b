"""Zero-block insertion: new layers that pass their input on."""

from regraft.errors import ParameterError
from regraft.grow.depth.gene import Gene
from regraft.grow.depth.grower import DepthGrower
from regraft.grow.depth.plan import Plan
from regraft.method import Paper


class ZeroBlock(DepthGrower):
    r"""Copies of layers, evenly spread, whose writes into the residual stream are zero (block expansion of LLaMA Pro).

    The model computes what it did; training wakes the new layers. The layers are parted into n - L groups, and behind each group stands a
    copy of its last layer with its output projections (weights and biases) at zero (section 3.2).

    Returns a checkpoint whose layers are those of the plan, weights (new layers, old layers).

    Raises `ParameterError` for fewer layers than there are, `CheckpointError` where norms stand behind the sum (BERT), so that no layer
    can be silent.
    """

    paper = Paper("LLaMA Pro: Progressive LLaMA with Block Expansion", "Wu et al.", 2024, arxiv="2401.02415")
    summary = "new layers that pass their input on, until training wakes them"

    def plan(self, gene: Gene, depth: int) -> Plan:
        count = gene.stack.depth
        if depth < count:
            raise ParameterError(f"zero-block: --layers {depth}: it only adds, and the model has {count}: choose drop, copy or short-gpt")
        more = depth - count
        sources, loudness = [], []
        for layer in range(count):
            copies = (layer + 1) * more // count - layer * more // count
            sources += [layer] * (1 + copies)
            loudness += [1.0] + [0.0] * copies
        plan = Plan.copies(sources, count)
        return Plan(plan.graft, plan.new, tuple(loudness) if more else None)
