"""SWS: one learned layer a stage, repeated within its stage as often as the depth asks."""

from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Lt

from regraft.errors import ParameterError
from regraft.grow.depth.gene import Gene
from regraft.grow.depth.learned.grower import LearnedGrower
from regraft.grow.depth.plan import Plan
from regraft.grow.depth.stack import LayerStack
from regraft.method import Paper


class Sws(LearnedGrower):
    r"""Learns one layer a stage while it is repeated in its place (stage-wise weight sharing).

    The auxiliary network applies layer s :math:`n_s` times, stage behind stage, and is distilled from the model. A model of n layers has
    each layer within its stage: :math:`\lfloor n/S\rfloor` times, the earliest stages once more (as published for 12 layers of 5 stages;
    for other depths inferred). Fewer layers than stages: evenly spaced stages, the first and the last among them (inferred).

    stages : how often each layer is applied in learning.
    layers_source : the stage of each layer of the result, as 0,0,1,1,2, never falling; empty for the rule above.
    init : "scratch" starts all at random, as in the paper; "random" just the layers; "mean" from the mean of the model's layers in each
        stage, "pick" from the one in its middle (the last three are ours).
    drop_path : stochastic depth, drawn for each application, with rates rising to this at the last layer (inferred from the released code).
    alpha, tau, reduction, std, outside, lr, min_lr, warmup, weight_decay, clip, batch_size, length, images, force_heads : see `tleg`.

    Returns a checkpoint whose layers are those of the plan, weights (new layers, stages). The paper tunes it with a tenth of the
    rate and no warm-up.

    Raises `ParameterError`: no text or images, a plan that falls, that leaves the stages, or that has another length than the depth.
    """

    name = "sws"
    paper = Paper(
        "Exploring Learngene via Stage-wise Weight Sharing for Initializing Variable-sized Models", "Xia et al.", 2024, arxiv="2404.16897"
    )
    summary = "one learned layer a stage, repeated in its place"
    needs = ("corpus",)
    from_model = "pick"

    stages: str = "3,3,4,3,3"
    layers_source: str = ""
    init: Literal["scratch", "random", "mean", "pick"] = "scratch"
    drop_path: Annotated[float, Ge(0), Lt(1)] = 0.1

    @property
    def path_rate(self) -> float:
        return self.drop_path

    def aux_plan(self, source: LayerStack) -> Plan:
        lengths = self._lengths()
        return Plan.copies([stage for stage, length in enumerate(lengths) for _ in range(length)], len(lengths))

    def start(self, source: LayerStack) -> Plan:
        lengths = self._lengths()
        ends = np.cumsum([0, *lengths]) / sum(lengths) * source.depth
        weights = np.zeros((len(lengths), source.depth))
        for stage in range(len(lengths)):
            inside = [i for i in range(source.depth) if ends[stage] <= i + 0.5 < ends[stage + 1]]
            middle = min(int((ends[stage] + ends[stage + 1]) / 2), source.depth - 1)
            if self.init == "mean" and inside:
                weights[stage, inside] = 1 / len(inside)
            else:
                weights[stage, middle] = 1
        return Plan.mix(weights)

    def starts_at_random(self) -> Literal["", "layers", "all"]:
        return "all" if self.init == "scratch" else "layers" if self.init == "random" else ""

    def about(self, source: LayerStack) -> dict[str, Any]:
        return {"stages": self._lengths()}

    def plan(self, gene: Gene, depth: int) -> Plan:
        self.check_heads(gene)
        count = gene.stack.depth
        plan = Plan.copies(self.sources(depth, count), count)
        return Plan(plan.graft, tuple(range(depth)))

    def sources(self, depth: int, count: int) -> list[int]:
        """The stage of each of `depth` layers, of `count` stages."""
        if not self.layers_source:
            return default_sources(depth, count)
        try:
            found = [int(part) for part in self.layers_source.split(",")]
        except ValueError:
            raise ParameterError(f"sws: layers_source={self.layers_source}: give numbers of stages, as 0,0,1,1,2") from None
        if len(found) != depth:
            raise ParameterError(f"sws: layers_source={self.layers_source} are {len(found)} layers, --layers asks for {depth}")
        if min(found) < 0 or max(found) >= count:
            raise ParameterError(f"sws: layers_source={self.layers_source}: the gene has stages 0 to {count - 1}")
        if found != sorted(found):
            raise ParameterError(f"sws: layers_source={self.layers_source} falls: stages keep their order")
        return found

    def remarks(self, gene: Gene, depth: int) -> list[str]:
        sources = self.sources(depth, gene.stack.depth)
        learned = gene.facts.get("stages") or []
        over = [f"stage {s}: {sources.count(s)} times, learned with {n}" for s, n in enumerate(learned) if sources.count(s) > n]
        told = [f"layers repeated more often than in learning ({'; '.join(over)}): measure the result"] if over else []
        return super().remarks(gene, depth) + told

    def _lengths(self) -> list[int]:
        try:
            lengths = [int(part) for part in self.stages.split(",")]
        except ValueError:
            lengths = [0]
        if min(lengths) < 1:
            raise ParameterError(f"sws: stages={self.stages}: give how often each layer is applied, as 3,3,4,3,3")
        return lengths


def default_sources(depth: int, count: int) -> list[int]:
    """Stage of each layer where nothing else is asked for."""
    if depth < count:
        return [round(layer * (count - 1) / max(depth - 1, 1)) for layer in range(depth)]
    whole, rest = divmod(depth, count)
    return [stage for stage in range(count) for _ in range(whole + (stage < rest))]
