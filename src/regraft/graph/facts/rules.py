"""What learned maps of relations say of each other: twice is nothing (symmetry), there and back (inversion), one after another.

Enters: a trained model whose relations are affine maps, coordinate by coordinate (`nfe`, also `rotate` in complex numbers). Leaves: how far
two maps send the same entity apart, in units of how far apart what they make of different entities is: 0 for the same map, about 1 for maps
that have nothing to do with each other.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regraft.graph.facts.data import Facts
from regraft.graph.facts.flows.flow import Affine

MOST = 100  # relations, those with most facts, among which compositions are looked for


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


def turned_out(facts: Facts, model: Any) -> list[dict[str, Any]]:
    """A row a relation, of the 100 with most facts where there are more; nothing for models without such maps.

    facts : of training. backwards : share of them whose head and tail may change places. twice : gap between the map put after itself and
    nothing. back : the relation that leads back best. one_after_another : the two others that make it best. gap_back, gap_after : of both.
    """
    maps = Maps.of(model)
    if maps is None:
        return []
    counts = torch.bincount(facts.train[:, 1], minlength=len(facts.relations))
    shown = counts.argsort(descending=True, stable=True)[:MOST]
    maps = Maps(Affine(maps.relations.loc[shown], maps.relations.scale[shown]), maps.means, maps.stds)
    names, backwards = [facts.relations[one] for one in shown.tolist()], both_ways(facts.train, len(facts.relations))
    with torch.no_grad():
        twice, back, after = maps.symmetry(), maps.inversions(), maps.compositions()
    count = len(names)
    own = torch.arange(count)
    back[own, own] = torch.inf  # said by `twice`
    after[own, :, own] = after[:, own, own] = torch.inf
    rows = []
    for number, name in enumerate(names):
        row = {
            "relation": name,
            "facts": int(counts[shown[number]]),
            "backwards": float(backwards[shown[number]]),
            "twice": float(twice[number]),
        }
        if count > 1:
            other = int(back[number].argmin())
            row |= {"back": names[other], "gap_back": float(back[number, other])}
        if count > 2:
            first, second = divmod(int(after[:, :, number].argmin()), count)
            row |= {"one_after_another": f"{names[first]}, {names[second]}", "gap_after": float(after[first, second, number])}
        rows.append(row)
    return rows


def both_ways(rows: Tensor, relations: int) -> Tensor:
    """(relations,) share of facts (n, 3) whose head and tail may change places; 0 of a relation without facts."""
    size = int(rows[:, [0, 2]].max()) + 1
    codes = (rows[:, 1] * size + rows[:, 0]) * size + rows[:, 2]
    turned = (rows[:, 1] * size + rows[:, 2]) * size + rows[:, 0]
    there = torch.isin(turned, codes).float()
    total = torch.bincount(rows[:, 1], minlength=relations)
    return torch.bincount(rows[:, 1], weights=there, minlength=relations) / total.clamp(min=1)
