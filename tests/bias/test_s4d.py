"""S4D's closed forms: initial values, kernel, recurrence, passing of states, rates, both directions."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.linalg import expm

from regraft.bias import S4D, S4DBlock, S4DConfig, S4DModel, param_groups, s4d_init, vandermonde
from regraft.bias.ssm.discrete import discretise
from regraft.bias.ssm.initial import legs
from regraft.bias.ssm.layer import s4d_config
from regraft.bias.ssm.network import BlockConfig
from regraft.errors import ParameterError


def layer(**given) -> S4D:
    torch.manual_seed(0)
    return S4D(S4DConfig(**({"d_model": 4, "d_state": 8} | given))).double()


def plain(c, z, length):
    """The sum as it is written."""
    return torch.einsum("hkn,hnl->hkl", c, (z.unsqueeze(-1) * torch.arange(length)).exp()).real


def drawn(h=3, k=2, n=5):
    draw = torch.Generator().manual_seed(1)
    c = torch.randn(h, k, n, dtype=torch.complex128, generator=draw)
    parts = torch.rand(h, n, dtype=torch.float64, generator=draw), torch.randn(h, n, dtype=torch.float64, generator=draw)
    return c, torch.complex(-0.2 * parts[0], 2 * parts[1])


def test_initial_values_are_the_cards() -> None:
    a, _ = s4d_init("lin", 8)
    torch.testing.assert_close(a, torch.complex(torch.full((4,), -0.5).double(), math.pi * torch.arange(4).double()))
    found = s4d_init("legs", 64)[0].imag.sort().values
    assert [round(float(one), 3) for one in found[:5]] == [0.264, 0.906, 1.703, 2.626, 3.665]
    assert [round(float(one), 1) for one in found[-3:]] == [258.2, 433.0, 1303.3]
    found = s4d_init("inv", 64)[0].imag
    assert [round(float(one), 1) for one in found[:3]] == [1283.4, 414.2, 240.4]
    assert float(found[-1]) == pytest.approx(0.323, abs=1e-3)
    torch.testing.assert_close(s4d_init("real", 4)[0].real, -torch.arange(1.0, 5).double())


def test_the_normal_part_of_legs() -> None:
    s, values, inputs, vectors = legs(32)
    torch.testing.assert_close(s.diagonal(), torch.full((32,), -0.5).double())
    torch.testing.assert_close(s + s.mT, -torch.eye(32, dtype=torch.float64))
    torch.testing.assert_close(s.to(vectors.dtype) @ vectors, vectors * values, atol=1e-10, rtol=0)
    whole = 2 * (vectors @ (values.exp() * inputs)).real  # one of each pair, twice its real part: e^S B
    torch.testing.assert_close(whole, torch.matrix_exp(s) @ (2 * torch.arange(32).double() + 1).sqrt(), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("n", "error"), [(8, 0.104), (32, 0.013), (128, 0.0015)])
def test_half_of_b_is_the_limit_of_legs(n: int, error: float) -> None:
    root = np.sqrt(2 * np.arange(n) + 1)
    a = -np.tril(np.outer(root, root), -1) - np.diag(np.arange(n) + 1)
    s, dt = legs(n)[0].numpy(), 1e-3
    times = np.arange(0, 1.5, dt)
    u = np.sin(3 * times) + 0.5 * np.cos(7 * times)

    def states(matrix, b):
        whole = expm(np.block([[matrix, b[:, None]], [np.zeros((1, n + 1))]]) * dt)
        x, found = np.zeros(n), []
        for now in u:
            x = whole[:n, :n] @ x + whole[:n, n] * now
            found.append(x[:4])
        return np.array(found)

    exact = states(a, root)
    far = [np.linalg.norm(states(s, scale * root) - exact) / np.linalg.norm(exact) for scale in (0.5, 1)]
    assert far[0] == pytest.approx(error, rel=0.1)
    assert far[1] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("length", [1, 2, 17, 100])
def test_the_kernel_is_the_sum_in_blocks_of_any_size(length: int) -> None:
    c, z = drawn()
    for budget in (1, 2**20):
        torch.testing.assert_close(vandermonde(c, z, length, budget=budget), plain(c, z, length))


def test_gradients_are_exact() -> None:
    c, z = drawn()
    given = (c.requires_grad_(), z.requires_grad_())
    assert torch.autograd.gradcheck(lambda c, z: vandermonde(c, z, 11, budget=1), given)


def test_nothing_of_the_powers_is_kept_for_the_way_back() -> None:
    h, n, length, kept = 8, 32, 512, []
    s4d = S4D(S4DConfig(d_model=h, d_state=n))
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        s4d.kernel(length)
    assert max(kept) <= h * n


@pytest.mark.parametrize("init", ["lin", "inv", "legs", "real", "rand", "inv2", "quad", "mixed"])
@pytest.mark.parametrize("disc", ["zoh", "bilinear", "dss"])
def test_steps_are_the_convolution(init: str, disc: str) -> None:
    s4d, u = layer(init=init, disc=disc, l_max=40), torch.randn(2, 40, 4).double()
    state, found = s4d.initial_state(2), []
    for step in range(40):
        y, state = s4d.step(u[:, step], state)
        found.append(y)
    torch.testing.assert_close(torch.stack(found, 1), s4d(u), atol=1e-11, rtol=1e-9)
    torch.testing.assert_close(s4d.prefill(u)[1], state)


def test_steps_are_the_convolution_in_single_precision() -> None:
    torch.manual_seed(0)
    s4d, u = S4D(S4DConfig(d_model=8, d_state=64)), torch.randn(1, 1024, 8)
    with torch.no_grad():
        state, found = s4d.initial_state(1), []
        for step in range(1024):
            y, state = s4d.step(u[:, step], state)
            found.append(y)
        whole = s4d(u)
    assert (torch.stack(found, 1) - whole).abs().max() <= 1e-5 * whole.abs().max()


def test_the_kernel_is_that_of_the_matrix_exponential() -> None:
    s4d = layer(d_model=1)
    step = math.exp(float(s4d.kernel.dt.detach()))
    a = s4d.kernel.discrete()[0][0].detach().numpy() / step
    n = len(a)
    given = torch.view_as_complex(s4d.kernel.b.detach())[0].numpy()
    whole = expm(np.block([[np.diag(a), given[:, None]], [np.zeros((1, n + 1))]]) * step)
    asked = [
        2 * (torch.view_as_complex(s4d.kernel.c.detach())[0, 0].numpy() @ expm(np.diag(a) * step * at) @ whole[:n, n]).real
        for at in range(9)
    ]
    np.testing.assert_allclose(s4d.kernel(9)[0, 0].detach().numpy(), asked, rtol=1e-9)


def test_the_bilinear_rule_comes_to_the_hold_with_the_square_of_the_step() -> None:
    a = s4d_init("lin", 8)[0][None]
    far = []
    for dt in (0.04, 0.02, 0.01):
        hold, rule = (discretise(a, torch.tensor([[dt]]).double(), how)[0].exp() ** round(1 / dt) for how in ("zoh", "bilinear"))
        far.append(float((hold - rule).abs().max()))
    assert all(3.5 < before / after < 4.5 for before, after in pairwise(far))


def test_a_zero_eigenvalue_has_its_limit() -> None:
    a = torch.tensor([[0, 1e-9, -1e-4, -0.5]], dtype=torch.complex128)
    factor = discretise(a, torch.tensor([[0.1]], dtype=torch.float64), "zoh")[1]
    asked = torch.where(a == 0, 0.1, (0.1 * a).expm1() / torch.where(a == 0, 1, a))
    torch.testing.assert_close(factor, asked, atol=1e-12, rtol=1e-9)


def test_a_sequence_in_parts_is_the_sequence() -> None:
    s4d, u = layer(), torch.randn(3, 50, 4).double()
    whole, behind = s4d.prefill(u)
    first, state = s4d.prefill(u[:, :19])
    second, state = s4d.prefill(u[:, 19:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(state, behind)


def test_half_the_rate_is_read_with_twice_the_step() -> None:
    s4d = layer(dt_min=1e-3, dt_max=2e-3, init="lin")
    times = torch.arange(2000).double()
    u = (times / 300).sin()[None, :, None].expand(1, -1, 4)
    with torch.no_grad():
        s4d.d.zero_()
        torch.testing.assert_close(s4d(u[:, ::2], rate=2), s4d(u)[:, ::2], atol=2e-2 * float(s4d(u).abs().max()), rtol=0)


def test_both_directions_see_all() -> None:
    u = torch.randn(2, 21, 4).double()
    for released in (False, True):
        s4d = layer(bidirectional=True, released=released)
        with torch.no_grad():
            behind, ahead = s4d.kernel(21).unbind(1)
            asked = s4d.d * u
            for t in range(21):
                for j in range(21):
                    if j <= t:
                        asked[:, t] += behind[:, t - j] * u[:, j]
                    if j >= t + released:
                        asked[:, t] += ahead[:, j - t - released] * u[:, j]
            torch.testing.assert_close(s4d(u), asked)
    with pytest.raises(ParameterError, match="looks ahead"):
        s4d.step(u[:, 0], s4d.initial_state(2))


def test_padding_says_nothing() -> None:
    torch.manual_seed(0)
    model = S4DModel(2, 3, S4DConfig(d_model=4, d_state=8)).double().eval()
    u, mask = torch.randn(1, 12, 2).double(), torch.ones(1, 20)
    mask[:, 12:] = 0
    padded = torch.cat([u, torch.randn(1, 8, 2).double()], 1)
    torch.testing.assert_close(model(padded, mask), model(u))


def test_a_network_goes_on_from_its_states() -> None:
    torch.manual_seed(0)
    for around in (BlockConfig(), BlockConfig(mix="linear", prenorm=False), BlockConfig(norm="batch")):
        model = S4DModel(2, 3, S4DConfig(d_model=4, d_state=8), pool=False, around=around).double().eval()
        u = torch.randn(2, 9, 2).double()
        whole = model(u)
        first, states = model.prefill(u[:, :5])
        found = [first]
        for step in range(5, 9):
            y, states = model.step(u[:, step], states)
            found.append(y.unsqueeze(1))
        torch.testing.assert_close(torch.cat(found, 1), whole)


def test_dropout_is_the_same_at_every_step() -> None:
    torch.manual_seed(0)
    block = S4DBlock(S4DConfig(d_model=16, d_state=4), BlockConfig(dropout=0.5, mix="linear")).train()
    with torch.no_grad():
        block.mix.weight.copy_(torch.eye(16))
        block.mix.bias.zero_()
    x = torch.randn(1, 30, 16)
    dropped = (block(x) - x)[0] == 0
    assert 0 < dropped.any(0).sum() < 16
    assert torch.equal(dropped.any(0), dropped.all(0))


def test_what_learns_slowly_stands_apart() -> None:
    model = S4DModel(1, 2, S4DConfig(d_model=4, d_state=8))
    others, special = param_groups(model, lr=1e-2, weight_decay=0.1)
    assert special["weight_decay"] == 0
    assert special["lr"] == 1e-3
    assert len(special["params"]) == 4 * 4  # step, A (two parts) and B of each layer
    assert len(others["params"]) + len(special["params"]) == len(list(model.parameters()))
    frozen = S4D(S4DConfig(d_model=4, d_state=8, train_b=False))
    assert len(param_groups(frozen)[1]["params"]) == 3


@pytest.mark.parametrize("real_transform", ["exp", "softplus", "relu"])
def test_the_state_decays_whatever_is_learned(real_transform: str) -> None:
    s4d = layer(real_transform=real_transform, dt_transform="softplus")
    torch.testing.assert_close(
        s4d.kernel.discrete()[0].real / s4d.kernel.discrete()[0].imag,
        layer().kernel.discrete()[0].real / layer().kernel.discrete()[0].imag,
        rtol=1e-3,
        atol=1e-6,
    )
    torch.nn.init.normal_(s4d.kernel.a_real, std=10)
    assert (s4d.kernel.discrete()[0].real < 0).all()


def test_copies_pairs_and_the_band() -> None:
    tied = layer(n_ssm=1)
    assert tied.kernel.a_real.shape == (1, 4)
    assert tied.kernel.discrete()[0].shape == (4, 4)
    assert layer(init="real").kernel.a_imag is None
    assert layer(init="real").kernel.discrete()[0].shape == (4, 8)
    banded = layer(band_limit=0.5, dt_min=0.1, dt_max=0.1, init="lin", d_state=64)
    z, _, c = banded.kernel.discrete()
    assert torch.equal((c == 0).all(1), z.imag / (2 * math.pi) >= 0.25)
    assert 0 < (c == 0).double().mean() < 1
    assert s4d_config(4, d_state=2) == replace(S4DConfig(d_model=4), d_state=2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"d_state": 7}, r"d_state 7: states stand in conjugate pairs, give an even number \(next: 8\)"),
        ({"init": "other"}, "init other: choose lin"),
        ({"d_model": 0}, "d_model 0"),
        ({"dt_min": 0}, "steps are above 0"),
        ({"n_ssm": 3}, "must divide d_model 4"),
        ({"disc": "dss"}, "give l_max"),
    ],
)
def test_bad_requests(given, said) -> None:
    with pytest.raises(ParameterError, match=said):
        layer(**given)


def test_bad_sequences() -> None:
    assert layer(init="real", d_state=7).kernel.discrete()[0].shape == (4, 7)  # no pairs, nothing odd about it
    with pytest.raises(ParameterError, match="33 steps: the kernel was built for l_max 32"):
        layer(l_max=32)(torch.zeros(1, 33, 4))
    with pytest.raises(ParameterError, match=r"\(n, length, 4\) is asked for"):
        layer()(torch.zeros(1, 33, 5))
    with pytest.raises(ParameterError, match="layers 0"):
        S4DModel(1, 1, S4DConfig(d_model=4), layers=0)
