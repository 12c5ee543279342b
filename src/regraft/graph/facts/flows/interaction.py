"""Flows as PyKEEN's own parts: an interaction that its resolver finds as "flow", and the model "nfe".

Every distance here is `one's own part + the other's own part + an inner product`, so that a head and a relation against all entities are
one product of matrices: (B, k) x (k, entities), never (B, entities, k).
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from pykeen.models import ERModel, model_resolver
from pykeen.nn.modules import DistMultInteraction, Interaction, interaction_resolver
from torch import Tensor
from torch.nn.functional import softplus
from torch.nn.init import uniform_

from regraft.graph.facts.flows.flow import HALF_MEAN, Affine, Flow, Piecewise, divergence, expected_gap, wasserstein
from regraft.graph.facts.flows.loop import SummedSoftplus

Variant = Literal[1, 2, 3, "point", "spread", "translation"]
PARTS: dict[Variant, tuple[int, int]] = {1: (2, 2), 2: (3, 2), 3: (2, 2), "point": (1, 2), "spread": (1, 1), "translation": (1, 1)}
HIGH = math.sqrt(0.5 - HALF_MEAN**2)  # Cholesky factor of the quadratic form of NFE-2
SIDE = HALF_MEAN**2 / HIGH
LAST = math.sqrt(0.5 - HALF_MEAN**2 - SIDE**2)


class FlowInteraction(Interaction):  # type: ignore[misc]  # PyKEEN has no types
    r"""score = gamma - D(g_r after g_h, g_t).

    variant : of entities and D. 1: affine, squared 2-Wasserstein; 2: two slopes, expected squared gap; 3: affine, KL; "point": places
        alone, moved and scaled by the relation (without uncertainty); "spread": scales alone; "translation": places, moved alone (TransE).
    compat : "released": variant 3 multiplies the place of a head by the relation's scale before softplus, as the authors' code does.
    """

    def __init__(self, variant: Variant = 2, gamma: float = 0.0, compat: Literal["paper", "released"] = "paper") -> None:
        super().__init__()
        self.variant, self.gamma, self.compat = variant, gamma, compat
        entity, relation = PARTS[variant]
        self.entity_shape, self.relation_shape = ("d",) * entity, ("d",) * relation

    def forward(self, h: Any, r: Any, t: Any) -> Tensor:
        """Scores of any shapes (..., d) that broadcast."""
        composed, tail = self.composed(h, r), self.entity(t)
        left, own = self._left(composed)
        right, other = self._right(tail)
        found: Tensor = self.gamma - (own + other + inner(left, right))
        return found

    def distance(self, h: Any, r: Any, t: Any) -> Tensor:
        """The same distance by its formula, triple by triple."""
        composed, tail = self.composed(h, r), self.entity(t)
        if isinstance(composed, Piecewise) and isinstance(tail, Piecewise):
            return expected_gap(composed, tail)
        assert isinstance(composed, Affine)
        assert isinstance(tail, Affine)
        return divergence(composed, tail) if self.variant == 3 else wasserstein(composed, tail)

    def entity(self, parts: Tensor | Sequence[Tensor]) -> Flow:
        """The map of an entity."""
        first, *others = listed(parts)
        if self.variant == 2:
            return Piecewise(first, *others)
        if self.variant == 3:
            return Affine(first, softplus(others[0]))
        if self.variant == "spread":
            return Affine(torch.zeros_like(first), first)
        return Affine(first, others[0] if self.variant == 1 else torch.zeros_like(first))

    def relation(self, parts: Tensor | Sequence[Tensor]) -> Affine:
        """The map of a relation."""
        first, *others = listed(parts)
        if self.variant == "spread":
            return Affine(torch.zeros_like(first), first)
        if self.variant == "translation":
            return Affine(first, torch.ones_like(first))
        return Affine(first, softplus(others[0]) if self.variant == 3 else others[0])

    def composed(self, h: Any, r: Any) -> Flow:
        """The relation's map after the head's."""
        found = self.entity(h).then(self.relation(r))
        if self.variant == 3 and self.compat == "released":
            loc, raw = listed(r)
            return Affine(raw * listed(h)[0] + loc, found.scale)  # type: ignore[union-attr]  # variant 3 is affine
        return found

    def _left(self, flow: Flow) -> tuple[Tensor, Tensor]:
        """Factor and own part of the composed map."""
        if self.variant == 3:
            assert isinstance(flow, Affine)
            return torch.cat([flow.scale.square() + flow.loc.square(), flow.loc], -1), (-flow.scale.log() - 0.5).sum(-1)
        found = self._features(flow)
        return -2 * found, found.square().sum(-1)

    def _right(self, flow: Flow) -> tuple[Tensor, Tensor]:
        """Factor and own part of the tail."""
        if self.variant == 3:
            assert isinstance(flow, Affine)
            weight = flow.scale.square().reciprocal()
            own = flow.scale.log() + flow.loc.square() * weight / 2
            return torch.cat([weight / 2, -flow.loc * weight], -1), own.sum(-1)
        found = self._features(flow)
        return found, found.square().sum(-1)

    def _features(self, flow: Flow) -> Tensor:
        """What D is the squared Euclidean distance of."""
        if isinstance(flow, Piecewise):
            below, above = flow.below.abs(), flow.above.abs()
            return torch.cat([flow.loc + HALF_MEAN * (above - below), HIGH * below + SIDE * above, LAST * above], -1)
        if self.variant == "spread":
            return flow.std
        return torch.cat([flow.loc, flow.std], -1) if self.variant == 1 else flow.loc


def inner(left: Tensor, right: Tensor) -> Tensor:
    """(...,) inner products; of (B, 1, k) and (1, E, k) by one product of matrices."""
    if left.dim() == right.dim() == 3 and left.shape[1] == right.shape[0] == 1:
        return left[:, 0] @ right[0].T
    return (left * right).sum(-1)


class ProductInteraction(DistMultInteraction):  # type: ignore[misc]  # PyKEEN has no types
    """PyKEEN's DistMult, the same scores, without its (B, entities, d) of products."""

    def forward(self, h: Tensor, r: Tensor, t: Tensor) -> Tensor:
        return inner(h * r, t)


def listed(parts: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """PyKEEN hands over a single part without a list."""
    return [parts] if isinstance(parts, Tensor) else list(parts)


class Nfe(ERModel):  # type: ignore[misc]  # PyKEEN has no types
    """Knowledge graph embedding by normalizing flows.

    ---
    citation:
        author: Xiao
        year: 2023
        link: https://arxiv.org/abs/2409.19977
    """

    loss_default = SummedSoftplus
    loss_default_kwargs: dict[str, Any] = {}  # noqa: RUF012  # as PyKEEN has it
    hpo_default: dict[str, Any] = {"embedding_dim": {"type": int, "low": 16, "high": 512, "q": 16}}  # noqa: RUF012

    def __init__(
        self,
        *,
        embedding_dim: int = 128,
        variant: Variant = 2,
        gamma: float = 0.0,
        compat: Literal["paper", "released"] = "paper",
        **kwargs: Any,
    ) -> None:
        entity, relation = PARTS[variant]
        start = {"shape": embedding_dim, "initializer": uniform_, "initializer_kwargs": {"a": -0.1, "b": 0.1}}
        super().__init__(
            interaction=FlowInteraction,
            interaction_kwargs={"variant": variant, "gamma": gamma, "compat": compat},
            entity_representations_kwargs=[start] * entity,
            relation_representations_kwargs=[start] * relation,
            **kwargs,
        )

    def flows(self) -> Flow:
        """Maps of all entities, (entities, d)."""
        found: Flow = self.interaction.entity([one() for one in self.entity_representations])
        return found


interaction_resolver.register(FlowInteraction, raise_on_conflict=False)
model_resolver.register(Nfe, raise_on_conflict=False)
