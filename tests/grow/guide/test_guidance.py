"""Guidance: what distances are invariant to, what the loss may and may not touch, and a run."""

import json

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from typer.testing import CliRunner

from regraft.cli import app
from regraft.errors import ParameterError
from regraft.grow.guide import GuidanceLoss, cka, load
from regraft.grow.guide.data import open_arrays
from regraft.grow.guide.distances import DISTANCES, cka_of_grams, gram
from regraft.grow.guide.features import Recorder, uniform_map
from regraft.grow.guide.networks import NETWORKS, build
from regraft.grow.guide.train import Budget, fingerprint, fit
from toys.checkpoints import MODELS, V, refusal

DRAW = torch.Generator().manual_seed(0)
SHAPE = (8, 8)


def rows(*shape):
    return torch.randn(*shape, generator=DRAW, dtype=torch.float64)


def test_cka_is_what_its_definition_says():
    x, y = rows(12, 5), rows(12, 7)
    h = torch.eye(12, dtype=torch.float64) - 1 / 12
    k, other = h @ x @ x.T @ h, h @ y @ y.T @ h
    wanted = (k * other).sum() / (k.norm() * other.norm())
    assert torch.allclose(cka(x, y), wanted)
    assert torch.allclose(cka_of_grams(gram(x), gram(y)), wanted)
    assert torch.allclose(cka(x, y), cka(y, x))
    assert 0 <= cka(x, y) <= 1
    wide = rows(12, 40)
    assert torch.allclose(cka(wide, y), cka_of_grams(gram(wide), gram(y)))


@pytest.mark.parametrize("name", ["cka", "ridge"])
def test_distances_keep_under_orthogonal_maps_scaling_and_translation_alone(name):
    x, y = rows(20, 6), rows(20, 4)
    turn = torch.linalg.qr(rows(6, 6)).Q
    distance = DISTANCES[name]
    apart = distance.between(x, distance.describe(y))
    assert torch.allclose(distance.between(3 * x @ turn + 5, distance.describe(y)), apart)
    assert not torch.allclose(distance.between(x @ rows(6, 6), distance.describe(y)), apart, atol=1e-4)
    assert distance.between(x, distance.describe(x)) < (1e-9 if name == "cka" else 0.05)


def test_rsa_is_the_correlation_of_cosines():
    x, y = rows(9, 4), rows(9, 6)
    upper = [(nn.functional.normalize(one) @ nn.functional.normalize(one).T).numpy()[np.triu_indices(9, 1)] for one in (x, y)]
    wanted = 1 - np.corrcoef(*upper)[0, 1]
    assert float(DISTANCES["rsa"].between(x, DISTANCES["rsa"].describe(y))) == pytest.approx(wanted)


def test_ridge_is_the_residual_of_ridge_regression():
    x, y = rows(15, 6), rows(15, 3)
    a, b = x - x.mean(0), y - y.mean(0)
    alpha = 1e-2 * (a @ a.T).diagonal().mean()
    weights = torch.linalg.solve(a.T @ a + alpha * torch.eye(6, dtype=torch.float64), a.T @ b)
    wanted = (b - a @ weights).square().sum() / b.square().sum()
    assert torch.allclose(DISTANCES["ridge"].between(x, DISTANCES["ridge"].describe(y)), wanted)


@pytest.mark.parametrize("name", DISTANCES)
def test_gradients_are_right_and_finite_where_nothing_varies(name):
    distance, y = DISTANCES[name], rows(6, 3)
    described = distance.describe(y)
    assert torch.autograd.gradcheck(lambda x: distance.between(x, described), rows(6, 4).requires_grad_())
    for x in (torch.ones(6, 4), torch.zeros(6, 4)):
        x.requires_grad_()
        apart = distance.between(x, distance.describe(torch.ones(6, 3)))
        apart.backward()
        assert torch.isfinite(apart)
        assert torch.isfinite(x.grad).all()


def test_the_uniform_map():
    assert uniform_map(1, 5) == [0]
    assert uniform_map(5, 5) == [0, 1, 2, 3, 4]
    assert uniform_map(12, 4) == [0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3]
    wide = uniform_map(21, 48)
    assert (wide[0], wide[-1]) == (0, 47)
    assert wide == [round(i * 47 / 20) for i in range(21)]


def pair(target="deep-fcn", guide="resnet"):
    return build(target, SHAPE, 10, 0), build(guide, SHAPE, 10, 1)


@pytest.mark.parametrize("target", NETWORKS)
def test_every_network_is_guided_and_the_guide_is_left_alone(target):
    student, guide = pair(target, "transformer" if target == "rnn" else "resnet")
    before, mode = fingerprint(guide), guide.training
    guidance = GuidanceLoss(student, guide)
    x = torch.rand(16, *SHAPE)
    student.train()
    student(x)
    loss = guidance(x)
    loss.backward()
    assert loss > 0
    assert len(guidance.per_layer) > 1
    assert sum(guidance.per_layer.values()) == pytest.approx(float(loss), rel=1e-5)
    assert (fingerprint(guide), guide.training) == (before, mode)
    assert all(p.grad is None for p in guide.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())
    assert not list(guidance.parameters())
    assert student.head.weight.grad is None  # logits are left out


def test_features_are_those_before_an_activation_in_place():
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    recorder, x = Recorder(network), torch.randn(5, 3)
    network(x)
    assert torch.equal(recorder.take(5)["0"], network[0](x))


def test_sequence_first_layers_are_turned_even_where_both_axes_agree():
    layer = nn.RNN(3, 4)
    network = nn.ModuleDict({"rnn": layer})
    recorder = Recorder(network, ["rnn"])
    x = torch.randn(5, 5, 3)
    out, _ = layer(x)
    assert torch.equal(recorder.take(5)["rnn"], out.transpose(0, 1))


def test_no_weight_is_plain_training_bit_for_bit_and_stop_ends_guidance():
    data = open_arrays("digits")
    budget = Budget(steps=3, batch_size=32)
    plain = fit(build("deep-fcn", SHAPE, 10, 0), data, budget)
    for settings, same in (({"weight": 0.0}, True), ({"stop": 1}, False), ({}, False)):
        student, guide = pair()
        pulls = []
        extra = GuidanceLoss(student, guide, **settings)
        fit(student, data, budget, extra, lambda at, task, pull: pulls.append(pull))  # noqa: B023
        assert (fingerprint(student) == fingerprint(plain)) == same
        assert [pull > 0 for pull in pulls] == [not same, *[settings == {}] * 2]


@pytest.mark.parametrize("collision", ["last", "mean", "sum"])
def test_guide_layers_that_meet_one_of_the_target(collision):
    target, guide = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    loss = GuidanceLoss(target, guide, collision=collision)
    each = [GuidanceLoss(target, guide, map=[(name, "0")]) for name in ("0", "1")]
    x = torch.randn(8, 4)
    target(x)
    first, second = (float(one(x)) for one in each)
    wanted = {"last": second, "mean": (first + second) / 2, "sum": first + second}[collision]
    assert float(loss(x)) == pytest.approx(wanted, rel=1e-5)


def test_padding_does_not_count_and_the_cache_spares_the_guide():
    target, guide = (MODELS["bert"](transformers).eval() for _ in range(2))
    ids = torch.randint(3, V, (4, 6))
    mask = torch.ones_like(ids)
    mask[:, 4:] = 0
    other = ids.clone()
    other[:, 4:] = 5
    loss, seen = GuidanceLoss(target, guide, cache=1), []
    guide.register_forward_hook(lambda *_: seen.append(1))
    values = []
    for one in (ids, other):
        target(input_ids=one, attention_mask=mask)
        values.append(float(loss(input_ids=one, attention_mask=mask, mask=mask)))
    assert values[0] == pytest.approx(values[1], rel=1e-4)
    for key in ("a", "a", "b", "a"):
        target(input_ids=ids, attention_mask=mask)
        assert float(loss(input_ids=ids, attention_mask=mask, mask=mask, key=key)) == pytest.approx(values[0], rel=1e-4)
    assert len(seen) == 2 + 3


def test_a_run_of_the_command_and_bad_input(tmp_path):
    out, npz = tmp_path / "out", tmp_path / "data.npz"
    run = CliRunner().invoke
    given = ["grow", "guide", "deep-fcn", "--guide", "resnet", "--data", "digits", "--steps", "2", "--batch-size", "16", "--json"]
    done = run(app, [*given, "--out", str(out)])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert 0 <= figures["accuracy"] <= 1
    assert figures["distances"]
    assert load(out)(torch.rand(2, *SHAPE)).shape == (2, 10)
    draw = np.random.default_rng(0)
    np.savez(npz, x=draw.integers(0, 255, size=(40, 6, 6), dtype=np.uint8), y=np.array(["a", "b"] * 20))
    again = ["grow", "guide", "rnn", "--guide", "transformer", "--data", str(npz), "--steps", "1", "--method", "distillation"]
    assert run(app, [*again, "--guide-steps", "1", "--out", str(tmp_path / "second")]).exit_code == 0
    bad = [
        (["--data", "nothing.npz"], "no such file"),
        (["--guide", "vgg"], "unknown network"),
        (["--guide", "resnt"], "did you mean resnet?"),
        (["--guide", "resnet", "--batch-size", "1"], "--batch-size 1: give 2 or more"),
        (["--set", "distance=far"], "not accepted"),
        (["--guide", str(tmp_path)], "network.json"),
        (["--lr", "0"], "--lr 0.0: give a number above 0"),
    ]
    for change, said in bad:
        done = run(app, [*given, "--out", str(tmp_path / "bad"), *change])
        assert done.exit_code == 2, change
        assert said in done.output
    np.savez(tmp_path / "one.npz", x=np.ones((20, 4, 4)), y=np.zeros(20))
    assert "fewer than two classes" in refusal(open_arrays, str(tmp_path / "one.npz"))
    np.savez(tmp_path / "nan.npz", x=np.full((20, 4, 4), np.nan), y=np.arange(20))
    assert "no finite number" in refusal(open_arrays, str(tmp_path / "nan.npz"))
    assert not (tmp_path / "bad").exists()
    student, guide = pair()
    with pytest.raises(ParameterError, match="run the target"):
        GuidanceLoss(student, guide)(torch.rand(4, *SHAPE))
    with pytest.raises(ParameterError, match="has no module"):
        GuidanceLoss(student, guide, map={"nowhere": "head"})
