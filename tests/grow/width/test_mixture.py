"""MixtureGrowth on small networks: the card's closed forms."""

import copy

import pytest
import torch
from torch import nn

from regraft.errors import ParameterError
from regraft.grow.width.mixture import Cosine, Cost, Mixture, export, forward_flops, grow, parameter_groups, reestimate
from regraft.grow.width.mixture.coefficients import added, initial
from regraft.grow.width.mixture.templates import layout

IMAGES = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(5))


class Block(nn.Module):
    """A residual pair of convolutions, one of them depth-wise."""

    def __init__(self, width):
        super().__init__()
        self.first, self.norm = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.deep = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x):
        return x + self.deep(torch.relu(self.norm(self.first(x))))


def net(width, classes=5):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), Block(width), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, classes),
    )  # fmt: skip


def trained(module, seed=0):
    """A few steps, so that running statistics, scales and biases are not what they start with."""
    torch.manual_seed(seed)
    optimizer = torch.optim.SGD(parameter_groups(module, 1e-3), lr=0.05)
    labels = torch.arange(len(IMAGES)) % 5
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(module.train()(IMAGES), labels).backward()
        optimizer.step()
    return module.eval()


@pytest.fixture
def mixture():
    made = Mixture(net(4), net(8))
    for number, member in enumerate(made.members):
        trained(member, number)
    return made


def test_without_new_blocks_the_grown_network_is_the_sum_of_both(mixture):
    first, second = mixture.members
    grown = mixture.grow("zero").eval()
    with torch.no_grad():
        assert (grown(IMAGES) - first(IMAGES) - second(IMAGES)).abs().max() < 1e-5
        assert (mixture.grow("orthogonal").eval()(IMAGES) - first(IMAGES) - second(IMAGES)).abs().max() > 1e-2
        reversed_norm = mixture.grow("zero").eval()
        reversed_norm[1].running_mean.copy_(reversed_norm[1].running_mean.flip(0))
        assert (reversed_norm(IMAGES) - first(IMAGES) - second(IMAGES)).abs().max() > 1e-3  # the statistics count


def test_a_third_of_the_width_leaves_silent_channels_between():
    made = Mixture(net(4), net(12))
    for number, member in enumerate(made.members):
        trained(member, number)
    grown = made.grow("zero").eval()
    assert grown[1].running_var[4:8].eq(1).all()
    assert grown[1].weight[4:8].eq(1).all()
    assert grown[1].running_mean[4:8].eq(0).all()
    with torch.no_grad():
        assert (grown(IMAGES) - made.members[0](IMAGES) - made.members[1](IMAGES)).abs().max() < 1e-5


def test_one_template_of_coefficient_one_is_an_ordinary_network():
    first, second = trained(net(4), 1), trained(net(4), 2)
    made = Mixture.of_trained(first, second, net(8))
    with torch.no_grad():
        assert torch.equal(made.members[0].eval()(IMAGES), first(IMAGES))
        assert torch.equal(made.members[1].eval()(IMAGES), second(IMAGES))
        assert (grow(first, second, net(8)).eval()(IMAGES) - first(IMAGES) - second(IMAGES)).abs().max() < 1e-5


def test_earlier_states_of_the_runs_are_further_templates():
    starts = [net(4), net(4)]
    earlier = [copy.deepcopy(one.state_dict()) for one in starts]
    first, second = trained(starts[0], 1), trained(starts[1], 2)
    made = Mixture.of_trained(first, second, net(8), earlier=[tuple(earlier)])
    assert torch.equal(made.templates["0"].sets[1][1], earlier[1]["0.weight"])
    with torch.no_grad():
        assert torch.allclose(made.members[1].eval()(IMAGES), second(IMAGES), atol=1e-6)


def test_places_in_the_grid():
    assert layout(2, 2) == [[0, 2], [3, 1]]
    assert layout(2, 1) == [[0], [1]]
    assert layout(1, 2) == [[0, 1]]
    assert layout(3, 3) == [[0, 2, 3], [4, 5, 6], [7, 8, 1]]
    made = Mixture(net(4), net(8))
    wide = export(made.grow("none"))[3].first.weight
    blocks = {0: wide[:4, :4], 2: wide[:4, 4:], 3: wide[4:, :4], 1: wide[4:, 4:]}
    for number, block in blocks.items():
        expected = sum(a * t for a, t in zip(made.coefficients["3.first"][number], made.templates["3.first"].sets[number % 2], strict=True))
        assert torch.allclose(block, expected)


def test_a_new_coefficient_takes_the_direction_that_is_used_least():
    generator = torch.Generator().manual_seed(0)
    rows = initial(8, 5, generator)
    known = [torch.randn(5, generator=generator) for _ in range(4)]
    new = added(known, "orthogonal", rows[4], generator)
    assert new.norm() == pytest.approx(1)
    assert max(abs(float(new @ one)) for one in known) < 1e-5
    assert added(known, "orthogonal", rows[4], generator, scale=0.5).norm() == pytest.approx(0.5)
    few = [torch.tensor([1.0, 0.0]), torch.tensor([3.0, 0.1]), torch.tensor([2.0, 0.0])]
    assert abs(float(added(few, "orthogonal", rows[0][:2], generator)[1])) > 0.99
    assert torch.equal(added(known[:2], "orthogonal", rows[2], generator), rows[2])  # the third block keeps its own
    assert (added(known, "copy", rows[4], generator) - known[2]).norm() == pytest.approx(0.01, rel=1e-4)
    assert torch.allclose(rows.T @ rows, torch.eye(5), atol=1e-5)


def test_training_the_second_leaves_the_first_as_it_was(mixture):
    before = {name: tensor.clone() for name, tensor in mixture.members[0].state_dict().items()}
    moved = {name: tensor.clone() for name, tensor in mixture.members[1].state_dict().items()}
    trained(mixture.members[1], 7)
    after = mixture.members[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any(not torch.equal(moved[name], tensor) for name, tensor in mixture.members[1].state_dict().items())


def test_the_exported_network_is_plain_and_the_same(mixture):
    grown = trained(mixture.grow("orthogonal"), 3)
    plain = export(grown)
    assert torch.equal(plain(IMAGES), grown(IMAGES))
    assert {name: tensor.shape for name, tensor in plain.state_dict().items()} == {n: t.shape for n, t in net(8).state_dict().items()}
    assert all(parameter.requires_grad for parameter in plain.parameters())


def test_a_template_gets_the_gradient_of_every_block_that_uses_it(mixture):
    grown = mixture.grow("orthogonal").eval()
    layer, plain = grown[3].first, export(grown)
    grown.zero_grad()
    grown(IMAGES).square().sum().backward()
    plain(IMAGES).square().sum().backward()
    blocks = plain[3].first.weight.grad
    by_block = {0: blocks[:4, :4], 2: blocks[:4, 4:], 3: blocks[4:, :4], 1: blocks[4:, 4:]}
    alpha = mixture.coefficients["3.first"]
    for number in (0, 1):
        got = layer.parametrizations.weight[0].sets[number].grad
        expected = sum(alpha[m].detach()[:, None, None, None, None] * by_block[m][None] for m in (number, number + 2))
        assert torch.allclose(got, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_growth_adds_no_weights_but_coefficients(mixture):
    held = {id(p) for member in mixture.members for p in member.parameters()}
    new = [p for name, p in mixture.grow().named_parameters() if id(p) not in held and p.requires_grad and "parametrizations" in name]
    assert new
    assert all(p.ndim == 1 and len(p) == 2 for p in new)


def test_coefficients_do_not_decay(mixture):
    decayed, free = parameter_groups(mixture.grow(), 0.1)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert free["params"]
    assert all(p.ndim == 1 and len(p) == 2 for p in free["params"])


def test_layers_of_one_shape_may_share_a_bank():
    shape = [nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)]
    wide = [nn.Linear(4, 12), nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 3)]
    made = Mixture(nn.Sequential(*shape), nn.Sequential(*wide), share="shape", templates=3)
    assert made.templates["1"] is made.templates["2"]
    assert made.templates["0"] is not made.templates["1"]
    assert made.templates["0"].sets[0].shape[0] == 1
    assert made.coefficients["0"][0].tolist() == [1.0]
    x = torch.randn(5, 4)
    with torch.no_grad():
        assert torch.allclose(made.grow("zero")(x), made.members[0](x) + made.members[1](x), atol=1e-5)


def test_a_copied_member_is_the_first_with_noise(mixture):
    mixture.copy_member(noise=0.0)
    with torch.no_grad():
        assert torch.equal(mixture.members[0](IMAGES), mixture.members[1](IMAGES))


def test_templates_start_with_the_fan_of_all_of_them_or_of_one():
    layer = lambda width: nn.Sequential(nn.Conv2d(width, width, 3))  # noqa: E731
    stacked = Mixture(layer(64), layer(128)).templates["0"].sets[0]
    own = Mixture(layer(64), layer(128), upstream_fan=False).templates["0"].sets[0]
    assert float((own.std() / stacked.std()).detach()) == pytest.approx(64**0.5, rel=0.05)
    assert float(own.std().detach()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)


def test_statistics_are_estimated_again(mixture):
    grown = mixture.grow("orthogonal")
    reestimate(grown, [IMAGES])
    stem = export(grown)[0]
    assert torch.allclose(grown[1].running_mean, stem(IMAGES).mean((0, 2, 3)), atol=1e-5)
    assert grown[1].momentum == 0.1


def test_networks_that_do_not_fit_are_refused():
    with pytest.raises(ParameterError, match=r"0: blocks of \(4, 3, 3, 3\) do not fill \(6, 3, 3, 3\)"):
        Mixture(net(4), net(6))
    with pytest.raises(ParameterError, match="as wide in both"):
        Mixture(net(4), net(4))
    with pytest.raises(ParameterError, match="give 1 or more"):
        Mixture(net(4), net(8), templates=0)


def test_a_schedule_warms_up_falls_and_starts_again():
    phase = Cosine(0.1, 200, least=1e-6, warmup=2, start=1e-5)
    assert (phase.at(0), phase.at(2)) == (1e-5, 0.1)
    assert phase.at(200) == pytest.approx(1e-6)
    after = Cosine(1e-4, 41, least=3e-5, warmup=1, cycles=4, decay=0.5)
    assert after.at(1) == pytest.approx(1e-4)
    assert after.at(11) == pytest.approx(5e-5)
    assert after.at(10.999) == pytest.approx(3e-5, rel=1e-3)
    assert after.at(31.5) >= 3e-5


def test_the_cost_of_phases_adds_up():
    narrow, wide, one = net(4), net(8), IMAGES[:1]
    assert forward_flops(nn.Linear(6, 5), torch.zeros(2, 6)) == 2 * 2 * 6 * 5
    cost = Cost()
    cost.add("members", narrow, one, 10)
    cost.add("grown", wide, one, 1)
    assert cost.total == 3 * (10 * forward_flops(narrow, one) + forward_flops(wide, one))
