"""Rich feature construction: groups and objectives by closed form, discovery on a toy, the verb's directory, bad input."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

from regraft.bias import predict_then_interpolate, rich_features
from regraft.bias.prior import Plan
from regraft.bias.priors.rich_feature_construction import RichFeatureConstruction
from regraft.bias.rich import objectives as o
from regraft.bias.rich.construction import averaged, balanced, draw_balanced, synthesize
from regraft.bias.rich.groups import GroupBatches, GroupDRO, group_means, means_of_batch, worst_group
from regraft.bias.rich.job import rich_features_on
from regraft.bias.rich.networks import Descent, fresh, losses_of, mlp, predict
from regraft.bias.tasks.colored import colored_digits
from regraft.bias.tasks.task import digits, open_task
from regraft.cli import app
from regraft.errors import ParameterError, TaskError
from toys.guide_runner import run_guide

F64 = torch.float64
GUIDES = Path(__file__).parents[2] / "docs" / "guides"


def rows(n=40, c=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, c, generator=draw, dtype=F64, requires_grad=True)
    return logits, torch.randint(max(c, 2), (n,), generator=draw)


def seen(logits, y, features=None):
    return o.Seen(torch.ones(len(y), 1, dtype=F64) if features is None else features, logits, y, losses_of(logits, y).mean())


def test_the_gradient_of_the_worst_group_is_that_group_s_alone():
    losses = torch.tensor([1.0, 2.0, 5.0, 0.0], requires_grad=True)
    groups = [torch.tensor([True, True, False, False]), torch.tensor([False, True, True, False])]
    assert group_means(losses, groups).tolist() == [1.5, 3.5]
    worst_group(losses, groups).backward()
    assert losses.grad.tolist() == [0, 0.5, 0.5, 0]


def test_weights_of_groups_move_to_the_worst_before_the_loss():
    means = torch.tensor([1.0, 3.0, float("nan")])
    dro = GroupDRO(3, eta=0.5)
    loss = dro(means)
    raw = torch.tensor([0.5, 1.5, 0.0]).exp()
    assert torch.allclose(dro.q, raw / raw.sum())
    assert abs(float(dro.q.sum()) - 1) < 1e-6
    assert float(loss) == pytest.approx(float((dro.q[:2] * means[:2]).sum()))
    assert float(GroupDRO(2, eta=0.0)(means[:2])) == pytest.approx(2.0)  # the mean of the groups
    draws = GroupBatches([torch.tensor([True] * 9 + [False]), torch.tensor([False] * 9 + [True])], 4000, 0)
    picked, group = draws()
    assert abs(float((picked == 9).float().mean()) - 0.5) < 0.05
    assert bool(((picked == 9) == (group == 1)).all())
    found = means_of_batch(torch.tensor([1.0, 3.0, 7.0]), torch.tensor([0, 0, 2]), 3)
    assert found[0] == 2
    assert found[1].isnan()
    assert found[2] == 7


@pytest.mark.parametrize("classes", [1, 3])
def test_penalties_are_their_formulae(classes):
    sides = [seen(*rows(c=classes, seed=seed)) for seed in (0, 1)]
    scale = torch.ones((), dtype=F64, requires_grad=True)
    slopes = [torch.autograd.grad(losses_of(one.logits * scale, one.y).mean(), scale)[0] for one in sides]
    assert float(o.irm(sides).detach()) == pytest.approx(float(torch.stack(slopes).square().mean()), rel=1e-12)
    if classes == 1:  # the closed form of the binary loss
        z, y = sides[0].logits[:, 0], sides[0].y
        assert float(o.irm(sides[:1]).detach()) == pytest.approx(float(((z.sigmoid() - y) * z).mean().detach() ** 2), rel=1e-12)
    losses = torch.stack([one.loss for one in sides])
    assert torch.equal(o.vrex(sides), torch.var(losses))
    assert float(o.sd(sides).detach()) == pytest.approx(sum(float(one.logits.detach().square().mean()) for one in sides))


def test_fishr_and_iga_are_gradients_of_the_head():
    head = nn.Linear(4, 3).double()
    draw = torch.Generator().manual_seed(3)
    inputs = [torch.randn(10, 4, generator=draw, dtype=F64) for _ in range(2)]
    labels = [torch.randint(3, (10,), generator=draw) for _ in range(2)]
    sides = [seen(head(x), y, x) for x, y in zip(inputs, labels, strict=True)]
    v, means = [], []
    for x, y in zip(inputs, labels, strict=True):
        each = []
        for i in range(len(x)):
            grads = torch.autograd.grad(losses_of(head(x[i : i + 1]), y[i : i + 1]).mean(), list(head.parameters()))
            each.append(torch.cat([one.flatten() for one in grads]))
        v.append(torch.stack(each).square().mean(0))
        means.append(torch.stack(each).mean(0))

    def spread(found):
        return float((torch.stack(found) - torch.stack(found).mean(0)).square().sum())

    assert float(o.fishr(sides)) == pytest.approx(spread(v), rel=1e-10)
    assert float(o.iga(sides, list(head.parameters()))) == pytest.approx(spread(means), rel=1e-10)


@pytest.mark.parametrize("classes", [1, 3])
def test_calibration_is_its_double_sum(classes):
    logits, y = rows(n=9, c=classes)
    p = torch.cat([1 - logits.sigmoid(), logits.sigmoid()], 1) if classes == 1 else logits.softmax(1)
    r, c = p.amax(1), (p.argmax(1) == y).double()
    total = sum((c[i] - r[i]) * (c[j] - r[j]) * torch.exp(-(r[i] - r[j]).abs() / 0.4) for i in range(9) for j in range(9)) / 81
    assert float(o.calibration(logits, y)) == pytest.approx(float(total), rel=1e-10)


def toy(n=4000, seed=0):
    """Two signs: the first is the class for 90 %, the second for 75 %, and each errs by itself."""
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (n,), generator=draw)
    easy, hard = (y ^ (torch.rand(n, generator=draw) > share).long() for share in (0.9, 0.75))
    return torch.stack([easy, hard], 1).float() * 2 - 1, y


def test_each_round_finds_another_feature():
    x, y = toy()
    how = Descent(rate=1e-2, l2=1e-3)
    made = rich_features(lambda: mlp(2, 16), x, y, first_steps=40, round_steps=200, synthesis_steps=150, how=how)
    first, second = made.rounds
    assert torch.equal(first.predictions, (x[:, 0] > 0).long())
    for label in (0, 1):  # given the class, the second round knows nothing of what the first used
        found = torch.corrcoef(torch.stack([first.predictions[y == label].double(), second.predictions[y == label].double()]))[0, 1]
        assert abs(float(found)) < 0.05
    assert float((second.predictions == (x[:, 1] > 0)).double().mean()) > 0.99
    rows_ = made.encoder(x)
    for head, one in zip(made.heads, made.rounds, strict=True):  # one encoder holds both
        assert float(((head(rows_)[:, 0] > 0).long() == one.predictions).double().mean()) > 0.99
    agreement = made.agreement()
    assert agreement[0, 1] == (first.predictions == second.predictions).double().mean()
    assert agreement[0, 0] == 1


def test_in_batches_too():
    x, y = toy()
    how = Descent(rate=0.2, l2=1e-4, batch=256, eta=0.1)
    made = rich_features(nn.Identity, x, y, first_steps=150, round_steps=400, synthesis_steps=200, how=how)
    assert torch.equal(made.rounds[0].predictions, (x[:, 0] > 0).long())
    assert torch.equal(made.rounds[1].predictions, (x[:, 1] > 0).long())


@pytest.mark.parametrize("weight", [0.5, 50.0])
def test_weights_above_one_divide_the_total(weight):
    x, where = torch.randn(20, 5), torch.arange(20) // 10
    y, network = torch.arange(20) % 2, fresh(nn.Identity, torch.randn(20, 5), 2, 0)
    how = Descent(l2=0.01)
    with torch.no_grad():
        sides = [seen(network(x[where == one]), y[where == one]) for one in (0, 1)]
        size = 0.01 * sum(one.square().sum() for one in network.parameters())
        total = (sum(one.loss for one in sides) + size + weight * o.vrex(sides)) / max(weight, 1.0)
    [(_, first)] = o.tune(network, x, y, where, o.Objective(weight=weight), steps=1, how=how)
    assert first == pytest.approx(float(total), rel=1e-5)


def test_synthesis_of_one_teacher_is_distillation():
    x, y = toy(400)
    teacher, how = (x[:, 1] > 0).long(), Descent(rate=1e-2, l2=0.0)
    ours = synthesize(lambda: mlp(2, 8), x, [teacher], y, 2, 30, "none", how)
    plain = fresh(lambda: mlp(2, 8), x, 2, how.seed + 999_000)
    optimizer = torch.optim.Adam(plain.parameters(), 1e-2)
    for _ in range(30):
        loss = nn.functional.binary_cross_entropy_with_logits(plain(x)[:, 0], teacher.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.allclose(ours(x), plain(x), atol=1e-5)


def test_heads_are_averaged_and_sides_drawn_alike():
    heads = [nn.Linear(3, 2) for _ in range(2)]
    mean = averaged(heads)
    x = torch.randn(5, 3)
    assert torch.allclose(mean(x), (heads[0](x) + heads[1](x)) / 2, atol=1e-6)
    assert torch.equal(averaged([heads[0], heads[0]])(x), heads[0](x))
    y = torch.tensor([0, 0, 0, 0, 1])
    teachers = [torch.tensor([0, 1, 0, 1, 1]), torch.tensor([0, 1, 1, 0, 1])]
    assert balanced(teachers, y, "agree")[0].tolist() == [True, True, False, False, True]
    assert balanced(teachers, y, "right")[0].tolist() == [True, False, False, False, True]
    drawn = draw_balanced(balanced(teachers, y, "agree"), 1000, 0)
    assert int(torch.isin(drawn, torch.tensor([2, 3])).sum()) == 500


def test_discovery_stops_where_nothing_is_left():
    x = torch.tensor([[-1.0], [1.0]]).repeat(20, 1)
    y = torch.tensor([0, 1]).repeat(20)
    how = Descent(rate=0.05)
    made = rich_features(lambda: mlp(1, 8), x, y, rounds=3, first_steps=60, round_steps=5, synthesis_steps=5, how=how)
    assert len(made.rounds) == 1
    assert "right everywhere" in made.stopped
    assert "fewer steps" in made.stopped
    x, y = toy(600)
    made = rich_features(lambda: mlp(1, 8), x[:, :1], y, first_steps=40, round_steps=60, synthesis_steps=5, how=Descent(rate=1e-2))
    assert len(made.rounds) == 1
    assert "no more than chance" in made.stopped


def test_batches_and_three_classes_and_the_frozen_encoder():
    draw = torch.Generator().manual_seed(0)
    y = torch.randint(3, (300,), generator=draw)
    x = nn.functional.one_hot(y, 3).float() + 0.6 * torch.randn(300, 3, generator=draw)
    how = Descent(rate=0.05, batch=32, eta=0.01)
    made = rich_features(lambda: mlp(3, 16), x, y, first_steps=60, round_steps=60, synthesis_steps=60, stop_at_chance=False, how=how)
    assert made.rounds[0].accuracy > 0.7
    assert len(made.rounds) == 2
    assert made.head.out_features == 3
    network = fresh(lambda: mlp(3, 16), x, 3, 0)
    before = [one.clone() for one in network.encoder.parameters()]
    where = torch.arange(300) % 2
    for name in ("erm", "irm", "vrex", "sd", "iga", "fishr", "clove", "groupdro"):
        head = network.heads[0].weight.clone()
        o.tune(network, x, y, where, o.Objective(name=name, weight=10), steps=3, frozen=True, how=how)
        assert not torch.equal(head, network.heads[0].weight)
    assert all(torch.equal(a, b) for a, b in zip(before, network.encoder.parameters(), strict=True))


def test_a_rich_start_helps_the_penalty_and_all_of_it_is_written(tmp_path):
    task = colored_digits()
    method = RichFeatureConstruction(hidden=64, first_steps=41, round_steps=201, synthesis_steps=201)
    _, figures = rich_features_on(task, method, ["vrex", "erm"], plan=Plan(steps=201), out=tmp_path / "rich")
    found = {row["trained"]: row["worst_accuracy"] for row in figures["trained"]}
    assert found["vrex, head alone"] > found["plain training"] + 0.15
    assert found["erm, head alone"] < found["vrex, head alone"] - 0.1  # the objective still matters
    assert figures["rounds"][1]["held_out_0"] > figures["rounds"][0]["held_out_0"] + 0.2
    encoder, rounds = load_file(tmp_path / "rich/encoder.safetensors"), load_file(tmp_path / "rich/rounds.safetensors")
    assert encoder["encoder.1.weight"].shape == (64, 128)
    assert encoder["heads.1.bias"].shape == (1,)
    assert int(rounds["correct.0"].sum()) == figures["rounds"][0]["right"]
    about = json.loads((tmp_path / "rich/regraft.json").read_text())
    assert about["verb"] == "bias rich-features"
    assert about["metrics"] == found
    assert "In the worst held-out environment" in (tmp_path / "rich/rich-features.html").read_text()


def stored(path, **changed):
    """A file of a task with two environments; None leaves a tensor out."""
    x, y = toy(40)
    found = {"x": x, "y": y, "environment": torch.arange(40) % 2, "x_test": x, "y_test": y, "environment_test": torch.zeros(40).long()}
    save_file({name: value.clone() for name, value in (found | changed).items() if value is not None}, path)
    return str(path)


def test_own_examples_from_a_file(tmp_path):
    task = open_task(stored(tmp_path / "own.safetensors"))
    assert (task.name, task.kind, task.classes, len(task.x)) == ("own", "environments", 2, 40)
    one = torch.zeros(40, dtype=torch.int64)
    alone = open_task(stored(tmp_path / "one.safetensors", environment=one))
    with pytest.raises(ParameterError, match="all examples are of environment 0"):
        rich_features_on(alone, RichFeatureConstruction(), ["vrex"], plan=Plan())
    with pytest.raises(ParameterError, match="all examples are of environment 0"):
        predict_then_interpolate(lambda: mlp(2, 4), task.x, task.y, one)
    for message, changed in {
        "no tensor environment": {"environment": None},
        "one entry an example": {"y": one[:3]},
        "classes from 0 on": {"y": one - 1},
        "not finite": {"x": torch.full((40, 2), torch.nan)},
        "x_test of": {"x_test": torch.zeros(40, 3)},
        "class 5 is held out": {"y_test": one + 5},
    }.items():
        with pytest.raises(TaskError, match=message):
            open_task(stored(tmp_path / "bad.safetensors", **changed))
    (tmp_path / "bad.safetensors").write_text("nothing")
    with pytest.raises(TaskError, match="cannot be read as safetensors"):
        open_task(str(tmp_path / "bad.safetensors"))


def test_bad_input(tmp_path):
    task, method = colored_digits(train=60, test=40), RichFeatureConstruction()
    for message, call in {
        "digits has no environments": lambda: rich_features_on(digits(), method, ["vrex"], plan=Plan()),
        "--objective mixup: choose erm, irm": lambda: rich_features_on(task, method, ["mixup"], plan=Plan()),
        "all examples are of one class": lambda: rich_features(lambda: mlp(128, 4), task.x, torch.zeros_like(task.y)),
        "60 examples with 3 classes": lambda: rich_features(lambda: mlp(128, 4), task.x, task.y[:3]),
        "it must give one row each": lambda: rich_features(nn.Identity, task.x, task.y),
        "weight -1": lambda: o.tune(fresh(lambda: mlp(128, 4), task.x, 2, 0), task.x, task.y, task.y, o.Objective(weight=-1), steps=1),
    }.items():
        with pytest.raises(ParameterError, match=message):
            call()
    network = fresh(lambda: mlp(128, 4), task.x, 2, 0)
    assert predict(network, task.x).shape == (60,)
    done = CliRunner().invoke(app, ["bias", "rich-features", "colored_digits", "--objective", "mixup", "--out", str(tmp_path / "x")])
    assert done.exit_code == 2
    assert "--objective mixup" in done.stderr
    assert not (tmp_path / "x").exists()


def test_the_guide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = {"301": "20", "--seeds 1": "--seeds 1 --set predict-then-interpolate.first_steps=5"}
    assert run_guide(GUIDES / "bias-features.md", small) == 4
    assert (tmp_path / "rich" / "rich-features.html").is_file()
