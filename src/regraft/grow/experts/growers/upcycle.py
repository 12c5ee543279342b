"""Sparse upcycling: every expert starts as a copy of the dense block, the router at random."""

from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from regraft.errors import ParameterError
from regraft.grow.experts.copies import COPIES, PARTS
from regraft.grow.experts.ffn import FeedForward, choose, oriented
from regraft.grow.experts.grower import Dense, ExpertGrower, Grown
from regraft.grow.experts.mixture import Expert, as_mixture, can_be_mixture
from regraft.grow.experts.routing import seeded_router
from regraft.grow.experts.split import Layer, Routing, Split
from regraft.method import Paper


class Upcycle(ExpertGrower):
    r"""Sparse upcycling: N copies of a feed-forward block and a router that learns to tell them apart.

    Weights of the chosen experts are the softmax of their logits and sum to 1, so that equal copies compute the dense block whatever the
    router says: the step from dense to sparse costs nothing, and neither does it gain anything before training. Parameters of a layer
    grow N times, those that a token meets `top_k` times.

    Parameters
    ----------
    experts, top_k : 8 and 2, as Mixtral has them (the paper: 32 experts, capacity routing in encoders).
    layers : auto is every layer in the form mixture from Llama and Mistral, for Mixtral knows no other, and else every other one from the
        second, as in the paper.
    form : mixture, a checkpoint of Mixtral, Qwen2-MoE or Qwen3-MoE, which trains with their own balancing loss; or copies, for every other
        architecture: the model's own, with further experts and router as parameters beside it. auto: a mixture where there is one.
    gate : softmax; or learned, the cosine router of GMoE, in the form copies.
    deviation : of the router's rows at random.
    perturbation : deviation of noise on each copy, relative to the deviation of its matrix. The paper found no use for it: 0.
    seed : of router and noise.
    """

    paper = Paper("Sparse Upcycling: Training Mixture-of-Experts from Dense Checkpoints", "Komatsuzaki et al.", 2022, arxiv="2212.05055")
    summary = "makes every expert a copy of the feed-forward block, with a new router"

    experts: Annotated[int, Field(ge=2)] = 8
    top_k: Annotated[int, Field(ge=1)] = 2
    form: Literal["auto", "mixture", "copies"] = "auto"
    gate: Literal["softmax", "learned"] = "softmax"
    deviation: Annotated[float, Field(ge=0)] = 0.02
    perturbation: Annotated[float, Field(ge=0)] = 0.0
    seed: Annotated[int, Field(ge=0)] = 0

    def grow(self, dense: Dense) -> Grown:
        if self.top_k > self.experts:
            raise ParameterError(f"top_k={self.top_k} of {self.experts} experts: take 1 to {self.experts}")
        mixture = self.form == "mixture" or (self.form == "auto" and self.gate == "softmax" and can_be_mixture(dense))
        if mixture and self.gate != "softmax":
            raise ParameterError(f"gate={self.gate}: no mixture architecture has such a router: take form=copies")
        blocks = dense.layers
        everywhere = mixture and dense.config.model_type in ("llama", "mistral")
        places = choose(blocks, self.layers, range(len(blocks)) if everywhere else range(1, len(blocks), 2))
        draw = torch.Generator().manual_seed(self.seed)
        if mixture:
            experts_of, router_of = partial(self._experts, dense, draw), partial(self._router, dense, draw)
            return as_mixture(dense, places, top_k=self.top_k, experts_of=experts_of, router_of=router_of)
        added = {name: value for place in places for name, value in self._copies(blocks[place], dense, draw).items()}
        routing = Routing(experts=self.experts, top_k=self.top_k, gate=self.gate)
        return Grown(added=added, split=Split(routing, tuple(Layer(blocks[place].path) for place in places), "copies"))

    def _experts(self, dense: Dense, draw: torch.Generator, block: FeedForward) -> list[Expert]:
        parts = [dense.read(f"{block.path}.{getattr(block.pattern, part)}.weight") for part in ("key", "up", "value")]
        return [Expert(*[self._perturbed(part, draw) if number else part for part in parts]) for number in range(self.experts)]

    def _router(self, dense: Dense, draw: torch.Generator, block: FeedForward) -> Tensor:
        dtype = dense.read(f"{block.path}.{block.pattern.key}.weight").dtype
        return (torch.randn(self.experts, block.dim, generator=draw) * self.deviation).to(dtype)

    def _copies(self, block: FeedForward, dense: Dense, draw: torch.Generator) -> dict[str, Tensor]:
        """Further experts, stacked, and the router, under the names that `Copies` gives them."""
        found: dict[str, Tensor] = {}
        for part in PARTS:
            name, module = getattr(block.pattern, part), getattr(block, part)
            if module is not None:
                matrix = oriented(module, dense.read(f"{block.path}.{name}.weight"))
                found[part] = self._stacked(matrix, draw)
                if module.bias is not None:
                    found[f"{part}_bias"] = dense.read(f"{block.path}.{name}.bias").expand(self.experts - 1, -1).contiguous()
        if self.gate == "learned":
            found |= {f"router.{name}": value for name, value in seeded_router(block.dim, self.experts, self.seed).items()}
        else:
            found["router.weight"] = torch.randn(self.experts, block.dim, generator=draw) * self.deviation
        return {block.beside(f"{COPIES}.{name}"): value for name, value in found.items()}

    def _stacked(self, matrix: Tensor, draw: torch.Generator) -> Tensor:
        return torch.stack([self._perturbed(matrix, draw) for _ in range(self.experts - 1)])

    def _perturbed(self, matrix: Tensor, draw: torch.Generator) -> Tensor:
        if not self.perturbation:
            return matrix
        noise = torch.randn(matrix.shape, generator=draw) * matrix.float().std() * self.perturbation
        return (matrix.float() + noise).to(matrix.dtype)
