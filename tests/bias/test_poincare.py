"""The ball: its identities, gradients by hand, geoopt's own operations, layers against their formulae, limits, norms, bad input."""

import geoopt
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck
from torch.nn.functional import unfold

from regraft.bias import EuclideanResNet, PoincareBatchNorm, PoincareConv2d, PoincareLinear, PoincareResNet, hyperbolize
from regraft.bias.compare import compare
from regraft.bias.poincare import ball, radial
from regraft.bias.poincare.layers import beta_ratio, twin_of
from regraft.bias.poincare.readout import distances, readout
from regraft.bias.poincare.resnet import Block, MobiusSum, PlainSum, energy
from regraft.bias.prior import Plan
from regraft.bias.priors.poincare_resnet import PoincareResNetPrior
from regraft.bias.tasks.task import Task, digits
from regraft.errors import ParameterError

C = 0.7


def tangents(n=20, d=5, seed=0, scale=0.4, dtype=torch.float64):
    return scale * torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def points(n=20, d=5, seed=0, scale=0.4, c=C):
    return ball.exp0(tangents(n, d, seed, scale), c)


def near(a, b, atol=1e-9):
    return torch.allclose(a, b, atol=atol, rtol=0)


def test_identities_of_the_ball():
    x, y, v = points(seed=1), points(seed=2), tangents(seed=3)
    assert near(ball.mobius_add(torch.zeros_like(x), x, C), x)
    assert near(ball.mobius_add(-x, ball.mobius_add(x, y, C), C), y)
    assert near(ball.log0(ball.exp0(v, C), C), v)
    assert near(ball.log(x, ball.exp(x, v, C), C), v)
    moved = ball.transport(x, y, v, C)
    size = [ball.conformal(at, C) * one.norm(dim=1, keepdim=True) for at, one in ((x, v), (y, moved))]
    assert near(*size)
    assert near(ball.distance(x, y, C), ball.conformal(x, C) * ball.log(x, y, C).norm(dim=1, keepdim=True))
    literal = ball.mobius_add(-ball.mobius_add(x, y, C), ball.mobius_add(x, ball.mobius_add(y, v * 0.1, C), C), C)
    assert near(ball.gyration(x, y, v * 0.1, C), literal)


def test_midpoints():
    x, shift = points(seed=1), points(1, seed=9)
    two = x[:2]
    middle = ball.midpoint(two, C)
    assert near(*ball.distance(middle, two, C))
    assert near(ball.log(two[:1], middle, C), ball.log(two[:1], two[1:], C) / 2)
    assert near(ball.midpoint(ball.mobius_add(shift, x, C), C), ball.mobius_add(shift, ball.midpoint(x, C), C), 1e-12)
    assert near(ball.midpoint(x[:1].expand(7, -1), C), x[:1])
    weights = torch.tensor([[3.0], [1.0]], dtype=torch.float64)
    assert near(ball.midpoint(two, C, weights), ball.midpoint(x[[0, 0, 0, 1]], C))


def test_the_midpoint_is_close_to_the_slower_mean():
    x = points(200, 8, scale=0.5, c=1.0)
    fast, slow = ball.midpoint(x, 1.0), ball.frechet_mean(x, 1.0)
    assert float((fast - slow).norm()) < 0.02
    assert near(ball.log(slow, x, 1.0).mean(0), torch.zeros(8, dtype=torch.float64), 1e-8)
    spread = [float(ball.distance(one, x, 1.0).square().mean()) for one in (fast, slow)]
    assert spread[1] <= spread[0] < spread[1] * 1.001
    assert gradcheck(
        lambda x, c: ball.frechet_mean(x, c), (points(6, 3).requires_grad_(), torch.tensor(C, dtype=torch.float64, requires_grad=True))
    )


def test_it_is_geoopt_s_ball():
    host = geoopt.PoincareBallExact(c=torch.tensor(C, dtype=torch.float64))
    x, y, v = points(seed=1), points(seed=2), tangents(seed=3)
    pairs = [
        (ball.mobius_add(x, y, C), host.mobius_add(x, y)),
        (ball.exp0(v, C), host.expmap0(v)),
        (ball.log0(x, C), host.logmap0(x)),
        (ball.exp(x, v, C), host.expmap(x, v)),
        (ball.log(x, y, C), host.logmap(x, y)),
        (ball.distance(x, y, C)[:, 0], host.dist(x, y)),
        (ball.transport(x, y, v, C), host.transp(x, y, v)),
        (ball.conformal(x, C), host.lambda_x(x, keepdim=True)),
        (ball.gyration(x, y, v, C), host.gyration(x, y, v)),
    ]
    assert all(near(ours, theirs, 1e-6) for ours, theirs in pairs)
    layer = PoincareLinear(5, 3, geoopt.PoincareBall(c=C)).double()
    layer.ball.assert_check_point(layer(x).float())


STRETCHES = [radial.exp0, radial.log0, radial.project, radial.half_point, radial.gather]


@pytest.mark.parametrize("stretch", STRETCHES)
@pytest.mark.parametrize("scale", [1e-6, 0.02, 0.5, 6.0])
def test_gradients_of_stretches(stretch, scale):
    v = tangents(4, 3, scale=1.0)
    v = (v / v.norm(dim=1, keepdim=True) * scale * torch.tensor([[0.5], [0.8], [1.0], [1.3]])).requires_grad_()
    if stretch is radial.half_point and scale > 1:
        return  # defined inside the ball
    c = torch.tensor(C, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda v, c: radial.radial(stretch, v, c, -1), (v, c), eps=1e-9 if scale < 1e-3 else 1e-6, atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 3), (1, 3)])
def test_gradients_of_the_sum(shape):
    given = [
        points(4, 3, seed=1).requires_grad_(),
        points(*shape, seed=2).requires_grad_(),
        torch.tensor(C, dtype=torch.float64, requires_grad=True),
    ]
    assert gradcheck(lambda x, y, c: ball.MobiusAdd.apply(x, y, c, -1), given)
    assert gradcheck(lambda x, y, c: ball.MobiusAdd.apply(y, x, c, -1), given)
    assert gradcheck(lambda x, y, c: ball.transport(x, y, x * 2, c), given)
    assert gradcheck(ball.exp, given)
    assert gradcheck(ball.log, given)


@pytest.mark.parametrize("scale", [1e-3, 0.3, 1.0, 9.0])
def test_gradients_of_hyperplanes(scale):
    dots, norm, r = tangents(4, 3, seed=1, scale=0.5 * scale), tangents(1, 3, seed=2).abs() + 0.3, tangents(1, 3, seed=3)
    square = (tangents(4, 1, seed=4, scale=scale).abs() + scale) ** 2
    given = [one.requires_grad_() for one in (dots, square, norm, r, torch.tensor(C, dtype=torch.float64))]
    assert gradcheck(readout, given, eps=1e-8 if scale < 0.1 else 1e-6, atol=1e-5, rtol=1e-3)
    if scale < 2:
        assert gradcheck(distances, given, eps=1e-8 if scale < 0.1 else 1e-6, atol=1e-4, rtol=1e-3)


def test_gradients_of_layers():
    t = tangents(2, 3 * 16, seed=5).reshape(2, 3, 4, 4).requires_grad_()
    conv = PoincareConv2d(3, 2, 3, C, padding=1, init="hnn++").double()
    norm = PoincareBatchNorm(3, C).double()
    with torch.no_grad():
        norm.mean.copy_(tangents(1, 3)[0])
    assert gradcheck(conv, t)
    assert gradcheck(norm, t)
    assert gradcheck(PoincareLinear(5, 3, C, init="hnn++").double(), points(3).requires_grad_())


def literal_linear(x, weight, offset, c):
    """(10) on points, as it is written."""
    root, factor = c**0.5, 2 / (1 - c * (x**2).sum(-1, keepdim=True))
    norm = weight.norm(dim=1)
    inner = root * factor * (x @ (weight / norm[:, None]).T) * torch.cosh(2 * root * offset)
    v = 2 * norm / root * torch.asinh(inner - (factor - 1) * torch.sinh(2 * root * offset))
    w = torch.sinh(root * v) / root
    return w / (1 + (1 + c * (w**2).sum(-1, keepdim=True)).sqrt()), v


def test_a_linear_layer_is_its_formula():
    layer = PoincareLinear(5, 4, C, init="hnn++").double()
    with torch.no_grad():
        layer.offset.copy_(tangents(1, 4)[0])
    x = points(seed=1)
    y, v = literal_linear(x, layer.weight, layer.offset, C)
    assert near(layer(x), y)
    assert near(layer.logits(x), v)


@pytest.mark.parametrize(("size", "stride", "padding", "side"), [(3, 1, 1, 6), (3, 2, 1, 7), (1, 2, 0, 5), ((3, 2), 1, 0, 5)])
def test_a_convolution_is_a_linear_layer_on_patches(size, stride, padding, side):
    conv = PoincareConv2d(3, 4, size, C, stride=stride, padding=padding, init="hnn++").double()
    with torch.no_grad():
        conv.offset.copy_(tangents(1, 4)[0])
    t = tangents(2, 3 * side * side, scale=0.2).reshape(2, 3, side, side)
    places = conv.kernel[0] * conv.kernel[1]
    patches = unfold(t * beta_ratio(3, places), conv.kernel, stride=stride, padding=padding).transpose(1, 2)
    y, _ = literal_linear(ball.exp0(patches, C), conv.weight.flatten(1), conv.offset, C)
    found = conv(t)
    assert found.shape[2] == (side + 2 * padding - conv.kernel[0]) // stride + 1
    assert near(found.flatten(2).transpose(1, 2), ball.log0(y, C))
    assert near(conv.points(ball.exp0(t, C, 1)), ball.exp0(found, C, 1))


def test_the_identity_keeps_norms_and_the_rival_does_not():
    x = points(256, 64, scale=0.1, c=0.1)
    plain, rival = x, x
    torch.manual_seed(0)
    for _ in range(20):
        plain = PoincareLinear(64, 64, 0.1).double()(plain)
        rival = PoincareLinear(64, 64, 0.1, init="hnn++").double()(rival)
    assert near(plain, x, 1e-13)
    assert rival.norm(dim=1).max().item() < 1e-10 < float(x.norm(dim=1).min())


def test_centres_of_kernels():
    conv = PoincareConv2d(2, 3, 3, 1e-8, padding=1, init="centre").double()
    t = tangents(1, 2 * 25).reshape(1, 2, 5, 5)
    assert near(conv(t)[:, :2], t * conv.scale, 1e-6)
    assert near(conv(t)[:, 2], torch.zeros(1, 5, 5, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["midpoint", "frechet"])
def test_a_batch_norm_gives_its_mean_and_spread(kind):
    norm = PoincareBatchNorm(4, C, mean=kind).double()
    with torch.no_grad():
        norm.mean.copy_(tangents(1, 4, seed=7)[0])
        norm.raw_variance.fill_(-1.0)
    t = tangents(6, 4 * 9, seed=1, scale=0.6).reshape(6, 4, 3, 3) + 0.3
    x = ball.exp0(norm(t), C, 1).movedim(1, -1).reshape(-1, 4)
    goal = ball.exp0(norm.mean[None], C)
    # the mean of points after a stretch around it is itself for the slower mean only; the midpoint's moves by a little
    assert near(ball.frechet_mean(x, C) if kind == "frechet" else ball.midpoint(x, C), goal, 1e-6 if kind == "frechet" else 0.02)
    assert ball.distance(goal, x, C).square().mean().item() == pytest.approx(norm.variance.item(), rel=1e-4)


def test_a_batch_norm_does_not_look_at_the_batch_in_inference():
    norm = PoincareBatchNorm(4, C, momentum=1.0).double()
    t = tangents(40, 4, seed=1)
    seen = norm(t)
    norm.eval()
    assert near(norm(t), seen, 1e-6)
    assert near(norm(t[:3]), norm(t)[:3])
    norm.batch_stats = True
    assert not near(norm(t[:3]), norm(t)[:3], 1e-3)


def test_layers_tend_to_plain_ones():
    c, x, t = 1e-9, tangents(seed=1), tangents(2, 3 * 25, seed=2).reshape(2, 3, 5, 5)
    linear, conv = PoincareLinear(5, 4, c, tangent=True, init="hnn++").double(), PoincareConv2d(3, 4, 3, c, init="hnn++").double()
    for layer, given in ((linear, x), (conv, t)):
        with torch.no_grad():
            layer.offset.copy_(tangents(1, 4, seed=3)[0])
        assert near(layer(given), twin_of(layer)(given), 1e-6)
    norm = PoincareBatchNorm(3, c).double()
    flat = t - t.mean((0, 2, 3), keepdim=True)
    assert near(norm(t), flat / (4 * flat.square().sum(1).mean()).sqrt(), 1e-5)
    assert near(MobiusSum(c)(t, 2 * t), 3 * t, 1e-6)


def test_order_of_a_residual():
    f, x = tangents(3, seed=1), tangents(3, seed=2)
    forth, back = MobiusSum(C)(f, x), MobiusSum(C, "rf")(x, f)
    assert near(ball.exp0(forth, C), ball.mobius_add(ball.exp0(f, C), ball.exp0(x, C), C))
    assert near(forth, back)
    assert not near(forth, MobiusSum(C)(x, f), 1e-3)


@pytest.mark.parametrize(
    ("c", "steps"), [(0.1, 120), (1.0, 120), (30.0, 120), *(pytest.param(c, 10_000, marks=pytest.mark.slow) for c in (0.1, 1.0, 30.0))]
)
def test_points_never_leave_the_ball(c, steps):
    """Random steps in single precision, of lengths from a thousandth to a thousand."""
    draw = torch.Generator().manual_seed(0)
    x, most = torch.zeros(16, 4), 0.0
    with torch.no_grad():
        for at in range(steps):
            v = torch.randn(16, 4, generator=draw) * 10.0 ** (at % 7 - 3)
            y = ball.exp0(v, c)
            x = (ball.exp(x, v, c), ball.mobius_add(x, y, c), ball.midpoint(torch.stack([x, y]).reshape(-1, 4), c).expand(16, -1))[at % 3]
            most = max(most, float((c * x.square().sum(1)).max()))
    assert 0.5 < most < 1
    ball.check_points(x, c)


def test_a_network_trained_with_large_steps_stays_in_the_ball():
    torch.manual_seed(0)
    net = PoincareResNet(3, (4, 4, 4), 1, 1, ball=1.0, learnable=True)
    optimizer = geoopt.optim.RiemannianAdam(net.parameters(), lr=0.3)
    x, y = torch.randn(6, 1, 4, 4) * 50, torch.arange(6) % 3
    for _ in range(6):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
        found = net.points(x)
        assert found.isfinite().all()
        ball.check_points(found, net.ball.c)
    assert net.ball.c.item() != pytest.approx(1.0, abs=1e-3)  # the curvature learns


def test_a_network_learns_and_has_a_twin():
    torch.manual_seed(0)
    y = torch.arange(30) % 2
    x = torch.randn(30, 1, 8, 8) * 0.3
    x[y == 1, :, :4] += 1
    net = PoincareResNet(2, (3, 4, 4), 1, 1)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(12):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    assert (net(x).argmax(1) == y).double().mean() > 0.95
    assert len([one for one in net.modules() if isinstance(one, PoincareConv2d)]) == len(
        [one for one in net.twin().modules() if isinstance(one, nn.Conv2d)]
    )
    assert energy(torch.tensor([[5.0, 0.0], [0.0, 0.0]])).diff() > 0


def test_saved_and_loaded(tmp_path):
    net, other = PoincareResNet(2, (4, 4, 4), 1, 1, ball=0.3), PoincareResNet(2, (4, 4, 4), 1, 1, ball=0.5)
    net(torch.randn(8, 1, 8, 8))
    other.load_state_dict(net.state_dict())
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(net.eval()(x), other.eval()(x))


def test_a_plain_network_is_hyperbolized():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).double()
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    x = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    assert near(hyperbolize(plain, 1e-9)(x), plain(x), 1e-5)
    made = hyperbolize(plain, 0.1)
    assert not near(made(x), plain(x), 1e-4)
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())
    resnet = hyperbolize(EuclideanResNet(3, (4, 4, 4), 1, 1))
    kinds = {type(one) for one in resnet.modules()}
    assert {PoincareConv2d, PoincareBatchNorm, PoincareLinear, MobiusSum, Block} <= kinds
    assert not kinds & {nn.Conv2d, nn.BatchNorm2d, nn.Linear, PlainSum}
    assert resnet(torch.randn(4, 1, 8, 8)).isfinite().all()
    norm = nn.BatchNorm2d(4)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 20.0]))
    assert hyperbolize(norm).variance.item() == pytest.approx(4 * 414, rel=1e-4)


def test_compare_on_images():
    task = digits(examples=60)
    task = Task("few digits", "labels", task.x, task.y, task.x_test[:40], task.y_test[:40], 10)
    small = {"width": 2}
    done = compare(
        task,
        methods=["poincare-resnet", "plain-resnet"],
        settings={"poincare-resnet": small, "plain-resnet": small},
        plan=Plan(steps=3, batch=20),
        seeds=1,
    )
    rows = {row["method"]: row for row in done.rows}
    assert set(rows) == {"plain-classifier", "poincare-resnet", "plain-resnet"}
    assert all(row["error"] is None for row in rows.values())
    with pytest.raises(ParameterError, match="takes images"):
        PoincareResNetPrior().learn(Task("rows", "labels", task.x.flatten(1), task.y, task.x_test, task.y_test, 10), Plan(steps=1))


def test_bad_input():
    layer = PoincareLinear(2, 2, 1.0)
    for x, message in (
        ([[1.0, 0.0]], "1 of 1 points lie on or outside"),
        ([[0.0, 2.0], [0.1, 0]], "farthest at 2 radii"),
        ([[float("nan"), 0]], "finite"),
    ):
        with pytest.raises(ParameterError, match=message):
            layer(torch.tensor(x))
    with pytest.raises(ParameterError, match="on or outside"):
        PoincareConv2d(1, 1, 3, 1.0).points(torch.ones(1, 1, 4, 4))
    for c in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ParameterError, match="needs a finite c above 0"):
            PoincareResNet(3, ball=c)
        with pytest.raises(ParameterError, match="needs a finite c above 0"):
            ball.exp0(torch.zeros(1, 2), c)
    with pytest.raises(ParameterError, match="nothing to hyperbolize"):
        hyperbolize(nn.ReLU())
    with pytest.raises(ParameterError, match="1: groups"):
        hyperbolize(nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2)))
    with pytest.raises(ParameterError, match="transposed"):
        hyperbolize(nn.Sequential(nn.ConvTranspose2d(4, 4, 3)))
    with pytest.raises(ParameterError, match=r"takes \(n, 1, height"):
        PoincareConv2d(1, 1, 3)(torch.zeros(1, 2, 4, 4))
    with pytest.raises(ParameterError, match="one point"):
        PoincareBatchNorm(3)(torch.zeros(1, 3))
    with pytest.raises(ParameterError, match="three widths"):
        PoincareResNet(3, (4, 4))
    with pytest.raises(ParameterError, match="no middle"):
        PoincareLinear(2, 2, init="centre")
