"""What learned maps of relations say of each other: twice is nothing (symmetry), there and back (inversion), one after another.

Enters: a trained model whose relations are affine maps, coordinate by coordinate (`nfe`, also `rotate` in complex numbers). Leaves: how far
two maps send the same entity apart, in units of how far apart what they make of different entities is: 0 for the same map, about 1 for maps
that have nothing to do with each other.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from regraft.graph.facts.data import Facts
from regraft.graph.facts.flows.flow import Affine

MOST = 100  # relations, those with most facts, among which rules are looked for
NEAR = 0.75  # gaps below are told of


@dataclass(frozen=True, eq=False)
class Maps:
    """Relations as affine maps, and the entities that they are put after.

    Attributes
    ----------
    relations : (R, d) scales and places, real or complex. means, stds : (E, d) of what entities are.
    """

    relations: Affine
    means: Tensor
    stds: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: Any) -> "Maps | None":
        """Of a PyKEEN model of this package's, or of its RotatE; None of others. Relations are those of the facts, not their inverses."""
        count = model.num_relations
        learned = [one()[: 2 * count : 2] if model.use_inverse_triples else one()[:count] for one in model.relation_representations]
        if hasattr(model, "flows"):
            entities = model.flows()
            return cls(model.interaction.relation(learned), entities.mean, entities.std)
        if type(model).__name__ == "RotatE":
            means = model.entity_representations[0]()
            return cls(Affine(torch.zeros_like(learned[0]), learned[0]), means, torch.zeros_like(means.real))
        return None

    def gaps(self, ones: Affine, others: Affine) -> Tensor:
        """(n, m) of `ones` (n, d) and `others` (m, d): 2-Wasserstein distance of what both make of an entity, mean over entities, in units
        of that between two entities that `others` have been put after. Distributions count by their means and standard deviations.
        """
        apart = torch.cdist(self._features(ones), self._features(others)).square()
        varied = others.scale.abs().square() @ (self.means - self.means.mean(0)).abs().square().mean(0)
        varied = varied + others.scale.abs().square() @ (self.stds - self.stds.mean(0)).square().mean(0)
        return (apart / (2 * varied).clamp(min=1e-12)).sqrt()

    def symmetry(self) -> Tensor:
        """(R,) gap between the map put after itself and nothing."""
        return self.gaps(self.relations.then(self.relations), self._nothing())[:, 0]

    def inversions(self) -> Tensor:
        """(R, R) gap between map i put after map j and nothing."""
        return self.gaps(self._products(), self._nothing()).reshape(len(self.relations.loc), -1).T

    def compositions(self) -> Tensor:
        """(R, R, R) gap between map j put after map i and map k, at [i, j, k]."""
        count = len(self.relations.loc)
        return self.gaps(self._products(), self.relations).reshape(count, count, count)

    def _products(self) -> Affine:
        """(R R, d) each map with each put after it."""
        loc, scale = self.relations.loc, self.relations.scale
        first = Affine(loc[:, None], scale[:, None]).then(Affine(loc[None], scale[None]))
        return Affine(first.loc.flatten(0, 1), first.scale.flatten(0, 1))

    def _nothing(self) -> Affine:
        one = self.relations.loc[:1]
        return Affine(torch.zeros_like(one), torch.ones_like(one))

    def _features(self, maps: Affine) -> Tensor:
        """(n, k) real, whose squared distances are mean gaps: of a s + b over entities a, E|s a + b|^2 = |s|^2 Var a + |s E a + b|^2."""
        center = self.means.mean(0)
        deviation = (self.means - center).abs().square().mean(0).sqrt()
        wide = self.stds.square().mean(0).sqrt()
        parts = [maps.scale * deviation, maps.scale * center + maps.loc, maps.scale.abs() * wide]
        return torch.cat([torch.view_as_real(one).flatten(1) if one.is_complex() else one for one in parts], 1)


def turned_out(facts: Facts, model: Any) -> list[dict[str, Any]] | None:
    """Rules that the learned maps come near to, a row each, the nearest first; None of models without such maps.

    rule : symmetric, inverse or composed. relations : which; of composed ones "r, s = t" says that s after r is t. gap : as in `Maps.gaps`,
    below 0.75. holds : the share of what the rule would say of facts in training that is there. For each relation only the best rule of a
    kind is looked at, and at most the 100 relations with most facts.
    """
    maps = Maps.of(model)
    if maps is None:
        return None
    counts = torch.bincount(facts.train[:, 1], minlength=len(facts.relations))
    shown = counts.argsort(descending=True, stable=True)[:MOST]
    maps = Maps(Affine(maps.relations.loc[shown], maps.relations.scale[shown]), maps.means, maps.stds)
    with torch.no_grad():
        twice, back, after = maps.symmetry(), maps.inversions(), maps.compositions()
    own = torch.arange(len(shown))
    back[own, own] = torch.inf  # said by `twice`
    after[own, :, own] = after[:, own, own] = torch.inf
    found: list[tuple[str, float, list[int]]] = [("symmetric", float(twice[one]), [one, one]) for one in own.tolist()]
    for one in own.tolist():
        other = int(back[one].argmin())
        if one < other or int(back[other].argmin()) != one:
            found.append(("inverse", float(back[one, other]), [one, other]))
        first, second = divmod(int(after[:, :, one].argmin()), len(own))
        found.append(("composed", float(after[first, second, one]), [first, second, one]))
    near = sorted((one for one in found if one[1] < NEAR), key=lambda one: one[1])
    tables = _tables(facts, shown)
    return [
        {"rule": rule, "relations": _said(facts, shown, which), "gap": gap, "holds": _share(tables, which)} for rule, gap, which in near
    ]


def _said(facts: Facts, shown: Tensor, which: list[int]) -> str:
    names = list(dict.fromkeys(facts.relations[int(shown[one])] for one in which[:2])) if len(which) == 2 else []
    if names:
        return ", ".join(names)
    first, second, third = (facts.relations[int(shown[one])] for one in which)
    return f"{first}, {second} = {third}"


def _tables(facts: Facts, shown: Tensor) -> list[csr_array]:
    """(E, E) of booleans a relation: which heads have which tails."""
    rows, size = facts.train.numpy(), len(facts.entities)
    found = []
    for one in shown.tolist():
        own = rows[rows[:, 1] == one]
        found.append(csr_array((np.ones(len(own), dtype=bool), (own[:, 0], own[:, 2])), shape=(size, size)))
    return found


def _share(tables: list[csr_array], which: list[int]) -> float:
    """How much of what the rule says is there: of turned facts, or of two steps."""
    first, *others = (tables[one] for one in which)
    says = first.T.tocsr() if len(others) == 1 else first @ others[0]
    return float(says.multiply(others[-1]).nnz / max(says.nnz, 1))
