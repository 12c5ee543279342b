"""EMoE: the neurons of a feed-forward block, grouped into experts; not one parameter more."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from regraft.errors import ParameterError
from regraft.grow.experts.block import ROUTER
from regraft.grow.experts.clustering import kept_clusters
from regraft.grow.experts.ffn import FeedForward, check_divides, choose, oriented
from regraft.grow.experts.grower import Dense, ExpertGrower, Grown
from regraft.grow.experts.mixture import Expert, as_mixture
from regraft.grow.experts.routing import seeded_router
from regraft.grow.experts.split import Gate, Layer, Routing, Rule, Score, Split
from regraft.method import Paper

PRESETS = {"llama": (0.0, None, 0.0, 0.0), "tutel": (1.0, 1.5, 0.01, 0.1)}  # noise, capacity, auxiliary, dropout


class EMoE(ExpertGrower):
    r"""Emergent mixture of experts: split late feed-forward blocks along the structure that is in the weights, and route while fine-tuning.

    A block is :math:`y = \sum_j \mathrm{act}(x \cdot K_j + b_j) V_j + c`. Keys at unit length are clustered into `experts` clusters of
    exactly equal size (balanced k-means); expert :math:`i` is its neurons. Its gate :math:`G_i` is the mean of its raw keys, so that a
    token's score :math:`x \cdot G_i` is the mean pre-activation of the expert's neurons without their biases. The `top_k` highest count 1
    each, all others 0, and :math:`c` once. With ``top_k = experts`` this is the dense block. The gate follows the keys through training; no
    gradient goes through the choice. Of gated blocks keys are the gate's rows (section 3; the released code agrees).

    Parameters
    ----------
    experts, top_k : 64 and 16, as for 7B models; a half to a quarter of the experts is what the authors recommend.
    layers : auto is the last two even layers (counted from 0: inferred); converting all of them hurts.
    clusters : balanced; or arbitrary (as neurons lie) and random equal shares, the controls.
    gate : average-key, or learned: a cosine router with parameters of its own (EMoE-learn).
    score : what the average gate scores by: key; up, product or absolute are ablations for masked use.
    rule : top; bottom, random and not-top are controls.
    value_weighted : keys are multiplied by the length of their values before clustering, and not brought to unit length.
    normalize : gate rows at unit length.
    preset : llama: nothing else. tutel, the authors' language and vision runs: in training Gaussian noise 1 / experts on scores, capacity
        1.5 (tokens over it are dropped), load-and-importance loss times 0.01, dropout 0.1 on pre-activations.
    noise, capacity, auxiliary, dropout : one of these apart from the preset; a capacity of 0 is none.
    form : split: the model's own architecture, permuted, with experts.json. mixture: a checkpoint of a mixture architecture of
        `transformers` (Llama-like models), whose router cannot give weights of 1: see `sharpness`.
    sharpness : of the mixture's router: its rows are the gate's times this. Weights of the chosen are softmax(sharpness x . G), within
        about sharpness of equal, and their values are multiplied to make up for it; smaller is closer until float32 cannot order experts.
    max_iter, seed : of the clustering.
    """

    name = "emoe"
    paper = Paper("Unlocking Emergent Modularity in Large Language Models", "Qiu et al.", 2024, arxiv="2310.10908")
    summary = "feed-forward blocks split into experts by clustering; no new parameters"

    clusters: Literal["balanced", "arbitrary", "random"] = "balanced"
    gate: Literal["average-key", "learned"] = "average-key"
    score: Score = "key"
    rule: Rule = "top"
    value_weighted: bool = False
    normalize: bool = False
    preset: Literal["llama", "tutel"] = "llama"
    noise: Annotated[float, Field(ge=0)] | None = None
    capacity: Annotated[float, Field(ge=0)] | None = None
    auxiliary: Annotated[float, Field(ge=0)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    form: Literal["split", "mixture"] = "split"
    sharpness: Annotated[float, Field(gt=0)] = 1e-3
    max_iter: Annotated[int, Field(ge=1)] = 1000
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def routing(self) -> Routing:
        noise, capacity, auxiliary, dropout = PRESETS[self.preset]
        gate: Gate = self.gate
        return Routing(
            experts=self.experts,
            top_k=self.top_k,
            gate=gate,
            score=self.score,
            rule=self.rule,
            normalize=self.normalize,
            noise=noise if self.noise is None else self.noise,
            capacity=(capacity if self.capacity is None else self.capacity) or None,
            auxiliary=auxiliary if self.auxiliary is None else self.auxiliary,
            dropout=dropout if self.dropout is None else self.dropout,
        )

    def grow(self, dense: Dense) -> Grown:
        blocks = dense.layers
        last = (len(blocks) - 1) // 2 * 2
        places = choose(blocks, self.layers, {last, max(0, last - 2)})
        for place in places:
            check_divides(blocks[place], self.experts, self.top_k)
        changed: dict[str, Tensor] = {}
        added: dict[str, Tensor] = {}
        layers = []
        for place in places:
            block = blocks[place]
            order = self.order(block, dense)
            changed |= {name: dense.read(name).index_select(dim, order) for name, dim in block.neuron_dims()}
            if self.gate == "learned":
                router = seeded_router(block.dim, self.experts, self.seed)
                added |= {block.beside(f"{ROUTER}.{name}"): value for name, value in router.items()}
            layers.append(Layer(block.path, tuple(order.tolist())))
        if self.form == "mixture":
            return self._mixture(dense, places, changed)
        return Grown(changed, added, split=Split(self.routing, tuple(layers)))

    def order(self, block: FeedForward, dense: Dense) -> Tensor:
        """Which neuron comes at each place, (neurons,): those of expert 0 first, and in their old order within an expert."""
        draw = np.random.default_rng(self.seed)
        if self.clusters != "balanced":
            return torch.from_numpy(draw.permutation(block.width)) if self.clusters == "random" else torch.arange(block.width)
        keys, values = (self._matrix(block, name, dense) for name in ("key", "value"))
        if self.value_weighted:
            keys = keys * values.norm(dim=0)[:, None]
        labels = kept_clusters(keys.numpy(), self.experts, seed=self.seed, max_iter=self.max_iter, unit=not self.value_weighted)
        return torch.from_numpy(np.argsort(labels, kind="stable"))

    def _matrix(self, block: FeedForward, name: str, dense: Dense) -> Tensor:
        part, path = getattr(block, name), f"{block.path}.{getattr(block.pattern, name)}.weight"
        return oriented(part, dense.read(path)).float().contiguous()

    def _mixture(self, dense: Dense, places: Sequence[int], changed: Mapping[str, Tensor]) -> Grown:
        """The same in a mixture architecture: rows of the router are the gate's, values make up for weights of 1 / top_k."""
        if self.gate != "average-key" or self.score != "key" or self.rule != "top":
            raise ParameterError("form=mixture routes by the average of keys, to the top: leave gate, score and rule out")

        def cut(block: FeedForward, part: str) -> Tensor:
            return changed[f"{block.path}.{getattr(block.pattern, part)}.weight"]

        def experts_of(block: FeedForward) -> list[Expert]:
            keys, ups = (cut(block, part).chunk(self.experts, dim=0) for part in ("key", "up"))
            values = (cut(block, "value") * self.top_k).chunk(self.experts, dim=1)
            return [Expert(*parts) for parts in zip(keys, ups, values, strict=True)]

        def router_of(block: FeedForward) -> Tensor:
            keys = cut(block, "key")
            gate = keys.float().reshape(self.experts, -1, keys.shape[1]).mean(1)
            return ((normalize(gate, dim=-1) if self.normalize else gate) * self.sharpness).to(keys.dtype)

        note = f"its router's weights are within about {self.sharpness} of equal, where the method has them equal"
        found = as_mixture(dense, places, top_k=self.top_k, experts_of=experts_of, router_of=router_of)
        return replace(found, notes=(note, *found.notes))
