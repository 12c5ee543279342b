"""Rules read off the maps of relations: closed forms, a model whose maps are known, made facts, and where nothing can be said."""

import numpy as np
import pytest
import torch

from regraft.graph.facts.data import Facts
from regraft.graph.facts.flows.flow import Affine
from regraft.graph.facts.report.training import report_of
from regraft.graph.facts.rules import Maps, turned_out
from regraft.method import resolve
from regraft.reproductions.harness.graph.made_rules import grid

RNG = torch.Generator().manual_seed(0)
STEPS = {"east": (1, 0, 1, 1), "west": (-1, 0, 1, 1), "north": (0, 1, 1, 1), "northeast": (1, 1, 1, 1), "mirror": (3, 0, -1, 1)}


def drawn(*shape):
    return torch.randn(*shape, generator=RNG)


@pytest.fixture
def known():
    """NFE-1 in two dimensions with the places of a grid of 4 x 4 and the steps on it, as facts and as a model."""
    places = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    rows = []
    for number, (x, y, sx, _) in enumerate(STEPS.values()):
        ends = places * torch.tensor([sx, 1]) + torch.tensor([x, y])
        on = ((ends >= 0) & (ends < 4)).all(1).nonzero()[:, 0]
        rows += [(int(one), number, int(ends[one, 0] * 4 + ends[one, 1])) for one in on]
    train = torch.tensor(rows)
    facts = Facts("grid", tuple(map(str, range(16))), tuple(STEPS), train, train[:1], train[:1])
    model = resolve("fact-model", "nfe", {"variant": 1, "dim": 2}).build(facts.factory(True))
    loc, scale = (one._embeddings.weight for one in model.relation_representations)
    with torch.no_grad():
        loc[::2] = torch.tensor([one[:2] for one in STEPS.values()], dtype=torch.float32)
        scale[::2] = torch.tensor([one[2:] for one in STEPS.values()], dtype=torch.float32)
        model.entity_representations[0]._embeddings.weight.copy_(places)
        model.entity_representations[1]._embeddings.weight.fill_(0.3)
    return facts, model


class TestGaps:
    @pytest.mark.parametrize("complex_numbers", [False, True])
    def test_they_are_the_mean_over_entities(self, complex_numbers):
        def values(*shape):
            return torch.complex(drawn(*shape), drawn(*shape)) if complex_numbers else drawn(*shape)

        means, stds = values(50, 3) + 2, drawn(50, 3).abs()
        ones, others = Affine(values(4, 3), values(4, 3)), Affine(values(5, 3), values(5, 3))
        found = Maps(ones, means, stds).gaps(ones, others)

        def moved(maps, number):
            return maps.scale[number] * means + maps.loc[number], maps.scale[number].abs() * stds

        for i, j in np.ndindex(4, 5):
            (mean, std), (mean2, std2) = moved(ones, i), moved(others, j)
            apart = ((mean - mean2).abs().square() + (std - std2).square()).sum(1).mean()
            pairs = (mean2[:, None] - mean2[None]).abs().square() + (std2[:, None] - std2[None]).square()
            assert found[i, j] == pytest.approx(float((apart / pairs.sum(2).mean()).sqrt()), rel=1e-4)

    def test_rules_that_hold_have_none(self):
        turn, way = Affine(drawn(1, 4), -torch.ones(1, 4)), Affine(drawn(1, 4), drawn(1, 4).exp())
        both = way.then(turn)
        relations = Affine(*(torch.cat([getattr(one, name) for one in (turn, way, way.inverse(), both)]) for name in ("loc", "scale")))
        maps = Maps(relations, drawn(30, 4), drawn(30, 4).abs())
        assert maps.symmetry().tolist() == pytest.approx([0, *maps.symmetry().tolist()[1:]], abs=1e-3)
        assert (maps.symmetry()[1:] > 0.1).all()
        assert maps.inversions()[1, 2] < 1e-3
        assert maps.inversions()[1, 3] > 0.1
        assert maps.compositions()[1, 0, 3] < 1e-3
        assert maps.compositions()[0, 1, 3] > 0.1  # the order counts


class TestTurnedOut:
    def test_a_model_that_knows_all_rules(self, known):
        rows = {(row["rule"], row["relations"]): row for row in turned_out(*known)}
        exact = {one for one, row in rows.items() if row["gap"] < 1e-3}
        assert exact >= {("symmetric", "mirror"), ("inverse", "east, west")}
        assert exact & {("composed", "east, north = northeast"), ("composed", "north, east = northeast")}
        assert all(rows[one]["holds"] == 1 for one in exact)
        assert ("symmetric", "north") not in exact
        assert ("inverse", "west, east") not in rows  # told once
        assert [row["gap"] for row in rows.values()] == sorted(row["gap"] for row in rows.values())

    def test_how_much_of_a_rule_holds(self, known):
        facts, model = known
        short = facts.train[~((facts.train[:, 1] == 1) & (facts.train[:, 0] < 8))]  # 4 of the 12 steps to the west
        rows = {row["relations"]: row for row in turned_out(Facts("short", facts.entities, facts.relations, short, short, short), model)}
        assert rows["east, west"]["holds"] == pytest.approx(8 / 12)

    def test_the_page_has_them(self, known):
        from regraft.graph.facts.learning import Learned

        facts, model = known
        learned = Learned(resolve("fact-model", "nfe", {"variant": 1, "dim": 2}), model, [(1.0, 0.5)], 1)
        figures = dict.fromkeys(("mrr", "hits@1", "hits@10"), 0.5)
        page = report_of(facts, learned, figures, None)
        assert "What the relations turned out to be" in [section.title for section in page.sections]

    def test_models_without_such_maps(self, known):
        facts, _ = known
        assert turned_out(facts, resolve("fact-model", "distmult", {"dim": 4}).build(facts.factory(True))) is None
        assert turned_out(facts, resolve("fact-model", "rotate", {"dim": 4}).build(facts.factory(True))) is not None

    @pytest.mark.parametrize("variant", [1, 2, 3, "point", "spread", "translation"])
    def test_every_variant_and_a_single_relation(self, variant):
        rows = torch.tensor([[0, 0, 1], [1, 0, 2], [2, 0, 0]])
        facts = Facts("ring", ("a", "b", "c"), ("next",), rows, rows, rows)
        model = resolve("fact-model", "nfe", {"variant": variant, "dim": 4}).build(facts.factory(True))
        maps = Maps.of(model)
        assert maps.compositions().shape == (1, 1, 1)
        assert torch.isfinite(maps.symmetry()).all()
        assert all(row["rule"] == "symmetric" and row["holds"] == 0 for row in turned_out(facts, model))


class TestMadeFacts:
    def test_what_is_held_out_follows(self):
        made = grid(5, seed=3)
        names, train = made.facts.relations, {tuple(row) for row in made.facts.train.tolist()}
        assert {names[one] for one in np.flatnonzero(made.symmetric)} == {"mirror-east", "mirror-north", "turn"}
        assert made.inverse.sum() == 6
        for head, relation, tail in torch.cat([made.facts.valid, made.facts.test]).tolist():
            assert (head, relation, tail) not in train
            others = [relation] if made.symmetric[relation] else np.flatnonzero(made.inverse[relation])
            assert any((tail, int(other), head) in train for other in others)

    def test_compositions_are_those_of_the_grid(self):
        made = grid(5)
        names = np.array(made.facts.relations)
        pairs = {tuple(names[list(one)]) for one in zip(*np.nonzero(made.composed), strict=True)}
        assert len(pairs) == 18
        assert {("east", "north", "northeast"), ("turn", "mirror-east", "mirror-north"), ("southwest", "east", "south")} <= pairs
        assert not any(name.startswith("chance") for one in pairs for name in one)
