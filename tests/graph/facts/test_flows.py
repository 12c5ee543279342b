"""Distances of flows in closed form, by sampling and by torch; the same by matrix products; relations that compose and invert."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from regraft.graph.facts.flows.flow import Affine, Piecewise, divergence, expected_gap, wasserstein
from regraft.graph.facts.flows.interaction import FlowInteraction, Nfe, ProductInteraction

VARIANTS = [1, 2, 3, "point", "spread", "translation"]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def parts(interaction, *shape):
    """Head, relation, tail, each of as many tensors as the interaction takes."""
    return [[drawn(*shape, 5) for _ in names] for names in (interaction.entity_shape, interaction.relation_shape, interaction.entity_shape)]


class TestDistances:
    def test_wasserstein_of_gaussians_is_the_closed_form_of_covariances(self):
        one, other = Affine(drawn(5), drawn(5)), Affine(drawn(5), drawn(5))
        a, b = torch.diag(one.scale.square()), torch.diag(other.scale.square())
        cross = torch.diag((a @ b).diagonal().sqrt())
        expected = (one.loc - other.loc).square().sum() + torch.trace(a + b - 2 * cross)
        assert torch.allclose(wasserstein(one, other), expected)

    def test_expected_gap_is_the_mean_over_samples(self):
        one = Piecewise(drawn(3), drawn(3).abs(), drawn(3).abs())
        other = Piecewise(drawn(3), drawn(3).abs(), drawn(3).abs())
        x = drawn(1_000_000, 3)
        assert float(expected_gap(one, other)) == pytest.approx(float((one(x) - other(x)).square().sum(-1).mean()), rel=0.01)

    def test_expected_gap_with_equal_slopes_is_wasserstein(self):
        loc, scale, other = drawn(4), drawn(4).abs(), Affine(drawn(4), drawn(4).abs())
        found = expected_gap(Piecewise(loc, scale, scale), Piecewise(other.loc, other.scale, other.scale))
        assert torch.allclose(found, wasserstein(Affine(loc, scale), other))

    def test_divergence_is_that_of_torch(self):
        one, other = Affine(drawn(4), drawn(4).exp()), Affine(drawn(4), drawn(4).exp())
        expected = kl_divergence(Normal(one.loc, one.scale), Normal(other.loc, other.scale)).sum()
        assert torch.allclose(divergence(one, other), expected)

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_never_negative_and_0_for_the_same(self, variant):
        flows = FlowInteraction(variant)
        head, relation, tail = parts(flows, 200)
        assert (flows.distance(head, relation, tail) >= 0).all()
        still = [torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)]
        if variant == 3:
            still[1] = still[1].expm1().log()  # softplus of it is 1
        none = [still[1]] if variant == "spread" else still[: len(relation)]
        assert torch.allclose(flows.distance(head, none, head), torch.zeros(200, dtype=torch.float64), atol=1e-12)


class TestMaps:
    def test_a_relation_and_its_inverse_are_nothing(self):
        relation, entity, x = Affine(drawn(4), drawn(4)), Piecewise(drawn(4), drawn(4), drawn(4)), drawn(9, 4)
        assert torch.allclose(entity.then(relation).then(relation.inverse())(x), entity(x))
        assert torch.allclose(relation.then(relation.inverse())(x), x)

    def test_composition_is_one_after_the_other(self):
        first, second, entity, x = Affine(drawn(4), drawn(4)), Affine(drawn(4), drawn(4)), Affine(drawn(4), drawn(4)), drawn(9, 4)
        assert torch.allclose(entity.then(first).then(second)(x), second(first(entity(x))))
        assert torch.allclose(entity.then(first.then(second))(x), second(first(entity(x))))

    @pytest.mark.parametrize("sign", [1, -1])
    def test_two_slopes_are_inverted(self, sign):
        entity, x = Piecewise(drawn(4), sign * drawn(4).abs(), sign * drawn(4).abs()), drawn(50, 4)
        assert torch.allclose(entity.back(entity(x)), x)

    def test_mean_and_deviation_are_those_of_samples(self):
        entity = Piecewise(drawn(3), drawn(3), drawn(3))
        made = entity(drawn(1_000_000, 3))
        assert torch.allclose(entity.mean, made.mean(0), atol=0.01)
        assert torch.allclose(entity.std, made.std(0), rtol=0.01)


class TestInteraction:
    @pytest.mark.parametrize("variant", VARIANTS)
    @pytest.mark.parametrize("compat", ["paper", "released"])
    def test_products_of_matrices_are_the_formula(self, variant, compat):
        flows = FlowInteraction(variant, gamma=1.5, compat=compat)
        head, relation, tail = parts(flows, 7)
        wide = [[one[:, None] for one in head], [one[:, None] for one in relation], [one[None] for one in tail]]
        found = flows(*wide)
        for row in range(7):
            own = [[one[row] for one in kind] for kind in (head, relation)]
            assert torch.allclose(found[row], 1.5 - torch.stack([flows.distance(*own, [one[e] for one in tail]) for e in range(7)]))
        assert torch.allclose(flows(head, relation, tail), found.diagonal())

    def test_without_spread_it_is_the_arm_without_uncertainty(self):
        flows, point = FlowInteraction(1), FlowInteraction("point")
        head, relation, tail = parts(point, 6)
        nothing = torch.zeros_like(head[0])
        assert torch.allclose(flows([head[0], nothing], relation, [tail[0], nothing]), point(head, relation, tail))

    def test_with_relations_of_scale_1_that_is_a_translation(self):
        point, moved = FlowInteraction("point"), FlowInteraction("translation")
        head, relation, tail = parts(moved, 6)
        ones = torch.ones_like(relation[0])
        expected = -(head[0] + relation[0] - tail[0]).square().sum(-1)
        assert torch.allclose(point(head, [relation[0], ones], tail), expected)
        assert torch.allclose(moved(head, relation, tail), expected)

    def test_the_released_place_of_a_head_is_scaled_before_softplus(self):
        head, relation = [torch.ones(2), torch.zeros(2)], [torch.zeros(2), torch.full((2,), -3.0)]
        assert torch.allclose(FlowInteraction(3, compat="released").composed(head, relation).loc, torch.full((2,), -3.0))
        assert torch.allclose(FlowInteraction(3).composed(head, relation).loc, torch.full((2,), math.log1p(math.exp(-3))))

    def test_products_are_those_of_the_host(self):
        from pykeen.nn.modules import DistMultInteraction

        head, relation, tail = drawn(7, 1, 5), drawn(7, 1, 5), drawn(1, 9, 5)
        assert torch.allclose(ProductInteraction()(head, relation, tail), DistMultInteraction()(head, relation, tail))

    def test_the_host_finds_them(self):
        from pykeen.losses import loss_resolver
        from pykeen.models import model_resolver
        from pykeen.nn.modules import interaction_resolver
        from pykeen.training import training_loop_resolver

        assert interaction_resolver.lookup("flow") is FlowInteraction
        assert model_resolver.lookup("nfe") is Nfe
        assert {training_loop_resolver.lookup("onevsall").__name__, loss_resolver.lookup("summedsoftplus").__name__} == {
            "OneVsAllTrainingLoop",
            "SummedSoftplus",
        }

    def test_the_loss_is_the_sum_over_entities(self):
        from regraft.graph.facts.flows.loop import SummedSoftplus

        scores, labels = drawn(3, 5), torch.eye(5, dtype=torch.float64)[:3]
        expected = torch.nn.functional.softplus((1 - 2 * labels) * scores).sum(1).mean()
        assert torch.allclose(SummedSoftplus().process_lcwa_scores(scores, labels), expected)
