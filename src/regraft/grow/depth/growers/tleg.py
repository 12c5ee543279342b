"""TLEG: a layer as a straight line in its place, so that two of them make a model of any depth."""

from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from annotated_types import Ge

from regraft.errors import ParameterError
from regraft.grow.depth.gene import Gene
from regraft.grow.depth.kinds import kind_of
from regraft.grow.depth.learned.grower import LearnedGrower
from regraft.grow.depth.learned.pooling import average_first
from regraft.grow.depth.plan import Plan
from regraft.grow.depth.stack import LayerStack
from regraft.grow.grower import Context
from regraft.method import Paper

KINDS = ("attn", "mlp", "norm")


class Tleg(LearnedGrower):
    r"""Learns a base and a slope; layer l of L is :math:`\theta_l = \theta_B + \frac{l-1}{L}\,\theta_A` in every tensor.

    An auxiliary network of `aux_depth` such layers is distilled from the model; a model of n layers is then written with L = n. What lies
    outside the layers is kept once. Settings are the paper's as its released code has them, unless said to be ours.

    aux_depth : layers of the auxiliary network, 0 for as many as the model has (the paper: 12, with models of 12).
    init : "scratch" starts all at random, as in the paper: matrices truncated normal, norms at 1, biases and slopes of
        vectors at 0. "random" starts the layers so and takes what lies outside from the model (ours). "fit" starts from the least-squares
        line through the model's own layers (ours; without training it is a poor model).
    expands : kinds of tensors that have a slope: attn, mlp, norm, with + between them; others are the same in every layer.
    segments : lengths of consecutive groups of the auxiliary network, as 4,4,4, each with a base and slope of its own and places counted
        within it; a group of one layer is a plain layer. At another depth groups keep their shares. Empty for one group.
    match_aux : models that average tokens (I-JEPA) norm each token first, as the auxiliary network does; false averages first, as the
        released code's descendants do (in the opened model; inferred to be a slip). No other model is touched by it.
    alpha, tau, reduction : weight of distillation beside labels, its temperature, what the divergence is divided by: "numel" by examples
        times classes, as released; "batchmean" by examples; "auto" (ours) as released for classifiers, by tokens for language models.
    outside : "keep" leaves what lies outside the layers as it started (ours).
    std : deviation of matrices that start at random.
    lr, min_lr, warmup, weight_decay : of AdamW, with a cosine; the paper's rate is for batches of 512.
    clip : largest norm of a gradient (ours), 0 for none, as released.
    batch_size, length : sequences in a step, and tokens in each.
    images : for vision models, an .npz file with pixel_values and perhaps labels, or a folder of pictures.
    force_heads : go on where a kept gene's config names other heads than it has learned with.

    Returns a checkpoint whose layers are those of the plan, weights (new layers, layers of the gene).

    Raises `ParameterError`: no text or images, segments that do not add up.
    """

    name = "tleg"
    paper = Paper("Transformer as Linear Expansion of Learngene", "Xia et al.", 2024, arxiv="2312.05614")
    summary = "layers on a learned line: base plus place times slope"
    needs = ("corpus",)
    from_model = "fit"

    aux_depth: Annotated[int, Ge(0)] = 0
    init: Literal["scratch", "random", "fit"] = "scratch"
    expands: str = "attn+mlp+norm"
    segments: str = ""
    match_aux: bool = True

    def aux_plan(self, source: LayerStack) -> Plan:
        lengths = self._lengths(source)
        return Plan.mix(line_weights(lengths, lengths))

    def start(self, source: LayerStack) -> Plan:
        lengths = self._lengths(source)
        line = line_weights(lengths, shares(lengths, source.depth))
        return Plan.mix(np.linalg.pinv(line))

    def starts_at_random(self) -> Literal["", "layers", "all"]:
        found: dict[str, Literal["", "layers", "all"]] = {"scratch": "all", "random": "layers", "fit": ""}
        return found[self.init]

    def slopes(self, source: LayerStack) -> set[int]:
        return slope_rows(self._lengths(source))

    def settle(self, gene: Any, stack: LayerStack, source: LayerStack) -> None:
        """Tensors that are not expanded: their slope is 0 and stays so, their base the mean over the layers."""
        wanted = set(self.expands.split("+"))
        if not wanted <= set(KINDS):
            raise ParameterError(f"{self.name}: expands={self.expands}: give some of {', '.join(KINDS)}, with + between them")
        layers = gene.get_submodule(stack.prefix)
        lengths = self._lengths(source)
        for row, length in zip(sorted(self.slopes(source)), [n for n in lengths if n > 1], strict=True):
            base, slope = (dict(layers[number].named_parameters()) for number in (row - 1, row))
            for name in slope:
                if kind_of(name, slope[name].ndim) not in wanted:
                    with torch.no_grad():
                        base[name].add_(slope[name], alpha=(length - 1) / (2 * length))
                        slope[name].zero_()
                    slope[name].requires_grad_(False)

    def about(self, source: LayerStack) -> dict[str, Any]:
        return {"segments": self._lengths(source)}

    def plan(self, gene: Gene, depth: int) -> Plan:
        self.check_heads(gene)
        lengths = gene.facts.get("segments") or [gene.depth_before]
        return Plan.mix(line_weights(lengths, shares(lengths, depth)))

    def remarks(self, gene: Gene, depth: int) -> list[str]:
        told, learned = super().remarks(gene, depth), int(gene.facts.get("aux_depth", depth))
        if depth <= learned:
            return told
        return [
            *told,
            f"{depth} layers, and the gene has learned as {learned}: places stay within the line, so nothing is extrapolated, but no such "
            "depth was tried in learning",
        ]

    def open(self, grown: Any, context: Context) -> Any:
        model = super().open(grown, context)
        return model if self.match_aux else average_first(model)

    def _lengths(self, source: LayerStack) -> list[int]:
        depth = self.aux_depth or source.depth
        if not self.segments:
            return [depth]
        try:
            lengths = [int(part) for part in self.segments.split(",")]
        except ValueError:
            lengths = []
        if not lengths or min(lengths) < 1 or (self.aux_depth or sum(lengths)) != sum(lengths):
            raise ParameterError(f"tleg: segments={self.segments}: give lengths that add up to aux_depth={depth}, as 4,4,4")
        return lengths


def line_weights(lengths: list[int], now: list[int]) -> npt.NDArray[np.float64]:
    """Weights (sum of `now`, G) of layers over bases and slopes: group s, learned with ``lengths[s]`` layers, has ``now[s]``."""
    columns = sum(2 if length > 1 else 1 for length in lengths)
    weights = np.zeros((sum(now), columns))
    row = column = 0
    for length, layers in zip(lengths, now, strict=True):
        weights[row : row + layers, column] = 1
        if length > 1:
            weights[row : row + layers, column + 1] = np.arange(layers) / max(layers, 1)
        row, column = row + layers, column + (2 if length > 1 else 1)
    return weights


def slope_rows(lengths: list[int]) -> set[int]:
    """Which of the gene's layers are slopes."""
    found, column = set(), 0
    for length in lengths:
        if length > 1:
            found.add(column + 1)
        column += 2 if length > 1 else 1
    return found


def shares(lengths: list[int], depth: int) -> list[int]:
    """`depth` layers over groups in proportion to `lengths`, one at least while there are enough; the rest to the largest remainders."""
    exact = [depth * length / sum(lengths) for length in lengths]
    now = [max(int(share), 1 if depth >= len(lengths) else 0) for share in exact]
    while sum(now) != depth:
        step = 1 if sum(now) < depth else -1
        able = [s for s in range(len(now)) if step > 0 or now[s] > (1 if depth >= len(lengths) else 0)]
        best = max(able, key=lambda s: (step * (exact[s] - now[s]), -s))
        now[best] += step
    return now
