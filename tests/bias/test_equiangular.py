"""Equiangular basis vectors: bounds, sets that are exact, descent in blocks, the fixed head, growth, the two verbs."""

import json
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize
from typer.testing import CliRunner

from regraft.bias import Bases, EquiangularClassifier, EquiangularHead, grow_bases, make_bases, swap_head
from regraft.bias.compare import compare
from regraft.bias.equiangular.bounds import smallest_dimension, welch
from regraft.bias.equiangular.descent import Descent, greatest_and_mean
from regraft.bias.prior import Plan
from regraft.bias.tasks.task import digits
from regraft.cli import app
from regraft.errors import InputError, ParameterError


@pytest.fixture(scope="module")
def crowded() -> Bases:
    return make_bases(120, 20, seed=1)


def rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_as_many_classes_as_dimensions_are_orthonormal() -> None:
    found = make_bases(12, 16)
    torch.testing.assert_close(found.vectors @ found.vectors.mT, torch.eye(12), atol=1e-6, rtol=0)
    assert found.facts["bound"] == 0
    assert found.facts["greatest_cosine"] < 1e-6


def test_one_more_is_a_simplex() -> None:
    found = make_bases(9, 8, signed=True)
    cosines = found.vectors @ found.vectors.mT
    torch.testing.assert_close(cosines, torch.eye(9) * (1 + 1 / 8) - 1 / 8, atol=1e-6, rtol=0)
    assert found.facts["greatest_cosine"] == pytest.approx(welch(9, 8, signed=True), abs=1e-6)
    assert welch(9, 8) == pytest.approx(1 / 8)  # and of absolute cosines it is the best there is


def test_the_bound_is_the_card_s_and_its_dimension_is_the_least() -> None:
    assert [round(welch(1000, d), 4) for d in (1000, 500, 400, 300, 200, 100)] == [0, 0.0316, 0.0387, 0.0483, 0.0633, 0.0949]
    for alpha in (0.05, 0.1, 0.3):
        dim = smallest_dimension(1000, alpha)
        assert welch(1000, dim) <= alpha < welch(1000, dim - 1)


def test_no_set_is_below_the_bound_and_ours_is_far_below_random(crowded: Bases) -> None:
    facts = crowded.facts
    assert facts["bound"] <= facts["greatest_cosine"] < 0.5 * facts["random_cosine"]
    assert greatest_and_mean(crowded.vectors)[0] == facts["greatest_cosine"]
    assert torch.equal(make_bases(120, 20, seed=1).vectors, crowded.vectors)  # by its seed alone


def test_an_alpha_is_met_by_the_paper_s_descent_and_by_ours() -> None:
    for generator in ("hinge", "squared-hinge"):
        found = make_bases(60, 20, alpha=0.36, generator=generator, steps=3000)
        assert found.facts["greatest_cosine"] <= 0.36 + 2e-4


@pytest.mark.parametrize("way", [Descent("hinge"), Descent("squared-hinge"), Descent("p-norm", p=4), Descent(signed=True)], ids=str)
def test_blocks_give_the_gradient_of_all_pairs(way: Descent) -> None:
    w, alpha = normalize(rows(30, 6).double(), dim=1), 0.2
    given = w.clone().requires_grad_()
    cosines = normalize(given, dim=1) @ normalize(given, dim=1).mT
    size = (cosines if way.signed else cosines.abs())[~torch.eye(30, dtype=torch.bool)]
    if way.penalty == "hinge":
        loss = (size - alpha).clamp(min=0).sum()
    elif way.penalty == "squared-hinge":
        loss = (size - alpha).clamp(min=0).square().sum() / 2
    else:
        loss = (alpha**2 * (size / alpha).clamp(max=2) ** way.p / way.p).sum() + (alpha**2 * 8 * (size / alpha - 2).clamp(min=0)).sum()
    loss.backward()
    for block in (7, 30):
        found, greatest = way.gradient(w, alpha, block=block)
        torch.testing.assert_close(found, given.grad)
        assert greatest == pytest.approx(float(size.detach().max()))
    found, _ = way.gradient(w, alpha, fixed=10, block=7)
    torch.testing.assert_close(found, given.grad[10:])


def test_few_pairs_are_multiplied_alone_with_the_same_result() -> None:
    w = rows(300, 40)
    dense = Descent("squared-hinge").gradient(w, 0.45, block=300)[0]
    slope = Descent("squared-hinge").slope((w @ w.mT).fill_diagonal_(0), 0.45)
    assert 0 < (slope != 0).float().mean() < 0.02
    whole = 2 * slope @ w
    torch.testing.assert_close(dense, whole - (whole * w).sum(1, keepdim=True) * w, atol=1e-6, rtol=1e-4)


def test_stored_in_fewer_bits_it_says_what_is_left(crowded: Bases, tmp_path) -> None:
    for dtype, loss in (("float32", 1e-7), ("float16", 1e-3), ("int8", 2e-2)):
        back = Bases.load(crowded.save(tmp_path / "b.safetensors", dtype))
        assert (back.vectors - crowded.vectors).abs().max() <= loss
        assert back.facts["greatest_cosine"] == pytest.approx(greatest_and_mean(back.vectors)[0], abs=1e-6)
    with pytest.raises(ParameterError, match="choose float32, float16, int8"):
        crowded.save(tmp_path / "b.safetensors", "int4")


def test_the_loss_at_the_class_vector_and_what_does_not_change_it(crowded: Bases) -> None:
    n, tau = 10, 0.07
    head = EquiangularHead(make_bases(n, n), temperature=tau)
    at = float(head.loss(head.vectors[3:4] * 5, torch.tensor([3])))
    assert at == pytest.approx(math.log(1 + (n - 1) * math.exp(-1 / tau)), abs=1e-6)
    head = EquiangularHead(crowded)
    z, y = (torch.randn(8, 20) * 3).requires_grad_(), torch.arange(8)
    head.loss(z, y).backward()
    assert (z.grad * z).sum(1).abs().max() < 1e-5  # nothing along the length
    torch.testing.assert_close(head.loss(z, y), head.loss(z * 7, y))
    order = torch.randperm(120)
    moved = EquiangularHead(crowded.vectors[order])
    torch.testing.assert_close(moved.loss(z, order.argsort()[y]), head.loss(z, y))
    assert torch.equal(EquiangularHead(crowded, temperature=2.0)(z).argmax(1), head(z).argmax(1))
    mixed = torch.eye(120)[y] * 0.7 + torch.eye(120)[y.flip(0)] * 0.3
    torch.testing.assert_close(head.loss(z, mixed), 0.7 * head.loss(z, y) + 0.3 * head.loss(z, y.flip(0)))


def test_nothing_of_the_head_learns_and_its_size_does_not_count() -> None:
    few, many = (EquiangularClassifier(nn.Identity(), 8, n, dim=16) for n in (4, 16))
    counts = [sum(p.numel() for p in model.parameters()) for model in (few, many)]
    assert counts[0] == counts[1] == 8 * 16 + 16
    many(torch.randn(3, 8)).sum().backward()
    assert many.head.vectors.grad is None
    assert not many.head.vectors.requires_grad
    assert "head.vectors" in many.state_dict()
    other = EquiangularClassifier(nn.Identity(), 8, 16, dim=16, seed=7)
    other.load_state_dict(many.state_dict())
    torch.testing.assert_close(other(torch.ones(1, 8)), many(torch.ones(1, 8)))


def test_maps_spare_rows_and_learned_temperature(crowded: Bases) -> None:
    z = torch.randn(2, 20, 3, 4)
    maps = EquiangularHead(crowded, axis=1)(z)
    torch.testing.assert_close(maps[0, :, 1, 2], EquiangularHead(crowded)(z[0, :, 1, 2]))
    masked = EquiangularHead(crowded, classes=5, spare="masked", learn_temperature=True)
    assert masked(z.movedim(1, -1)).softmax(-1)[..., 5:].sum() == 0
    masked.loss(z[:, :, 0, 0], torch.tensor([0, 4])).backward()
    assert masked.log_temperature.grad != 0


def test_the_nearest_in_blocks_are_the_nearest(crowded: Bases) -> None:
    head, z = EquiangularHead(crowded), torch.randn(9, 20)
    cosines, classes = head.nearest(z, k=5, block=32)
    whole = (normalize(z, dim=1) @ crowded.vectors.mT).topk(5)
    torch.testing.assert_close(cosines, whole.values)
    assert torch.equal(classes, whole.indices)


def test_short_features_are_warned_of_once() -> None:
    head = EquiangularHead(make_bases(4, 4))
    with pytest.warns(UserWarning, match="features are shorter than 0.1: train with Adam"):
        head(torch.full((2, 4), 1e-3))


@pytest.mark.parametrize(("classes", "dim"), [(5, 20), (120, 20)])
def test_more_classes_leave_the_old_ones_as_they_are(classes: int, dim: int) -> None:
    old = make_bases(classes, dim, steps=60)
    more = grow_bases(old, 7, steps=60)
    assert torch.equal(more.vectors[:classes], old.vectors)
    assert more.facts["greatest_cosine"] < (1e-6 if classes < dim else 0.75 * more.facts["random_cosine"])
    head, z = EquiangularHead(old), torch.randn(6, dim)
    before = head(z)
    head.grow(7)
    torch.testing.assert_close(head(z)[:, :classes], before, atol=1e-5, rtol=0)
    assert torch.equal(head(z)[:, :classes].argmax(1), before.argmax(1))
    assert head(z).shape == (6, classes + 7)


def test_a_swapped_head_folds_into_an_ordinary_layer() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5))
    assert swap_head(model, make_bases(5, 7)) == "2"
    x = torch.randn(40, 6)
    project, head = model[2]
    folded = head.folded(project)
    assert torch.equal(model(x).argmax(1), folded(model[1](model[0](x))).argmax(1))
    assert folded.weight.shape == (5, 8)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5))
    swap_head(model, make_bases(9, 4, steps=20), classes=5)  # of more vectors than labels, the first ones
    assert model(x).shape == (40, 5)


def test_it_learns_faster_than_an_ordinary_head() -> None:
    names = ["equiangular", "normalised-softmax"]
    done = compare(digits(examples=300), methods=names, plan=Plan(steps=60), seeds=3, settings={"equiangular": {"dim": 64}})
    found = {row["method"]: row for row in done.rows}
    assert found["equiangular"]["accuracy"] > found["plain-classifier"]["accuracy"]
    assert found["equiangular"]["greatest_cosine"] < 1e-6
    assert found["equiangular"]["parameters"] == found["plain-classifier"]["parameters"] + (256 + 1) * (64 - 10)


def test_the_verb_makes_grows_and_refuses(tmp_path) -> None:
    out, more = tmp_path / "bases.safetensors", tmp_path / "more.safetensors"
    call = CliRunner().invoke
    made = call(app, ["bias", "bases", "--classes", "40", "--dim", "10", "--steps", "40", "--out", str(out), "--json"])
    assert made.exit_code == 0, made.output
    facts = json.loads(made.stdout)
    assert facts["bound"] <= facts["greatest_cosine"] < facts["random_cosine"]
    grown = call(app, ["bias", "bases", "--grow", str(out), "--classes", "3", "--steps", "20", "--out", str(more), "--json"])
    assert json.loads(grown.stdout)["classes"] == 43
    assert torch.equal(Bases.load(more).vectors[:40], Bases.load(out).vectors)
    refused = call(app, ["bias", "bases", "--classes", "1000", "--dim", "100", "--alpha", ".05", "--out", str(tmp_path / "no.safetensors")])
    assert refused.exit_code == 2
    assert "at least 0.0949 (Welch): ask for --alpha 0.095 or more, or for --dim 286 or more" in refused.output
    assert not (tmp_path / "no.safetensors").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"classes": 1, "dim": 4}, "at least 2 classes"),
        ({"classes": 9, "dim": 0}, "1 dimension"),
        ({"classes": 9, "dim": 4, "generator": "orthogonal"}, "do not fit into 4 dimensions"),
        ({"classes": 9, "dim": 4, "generator": "simplex"}, "need 8 dimensions, not 4"),
        ({"classes": 9, "dim": 4, "alpha": 1.5}, "lies in"),
        ({"classes": 9, "dim": 4, "alpha": -0.5, "signed": True}, "at least 0.0000"),
        ({"classes": 90, "dim": 9, "alpha": 0.33, "steps": 3}, "3 steps came to"),
    ],
)
def test_bad_requests(given, said) -> None:
    with pytest.raises(ParameterError, match=said):
        make_bases(**given)


def test_bad_files_and_shapes(tmp_path, crowded: Bases) -> None:
    with pytest.raises(InputError, match="no such file"):
        Bases.load(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="holds no class vectors"):
        Bases.load(tmp_path / "bad.safetensors")
    with pytest.raises(ParameterError, match="121 classes and 120 class vectors"):
        EquiangularHead(crowded, classes=121)
    with pytest.raises(ParameterError, match="features of 19 numbers, class vectors of 20"):
        EquiangularHead(crowded)(torch.ones(2, 19))
    with pytest.raises(ParameterError, match="no linear layer"):
        swap_head(nn.ReLU(), crowded)


def test_it_is_the_normalised_softmax_of_pytorch_metric_learning(crowded: Bases) -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    theirs = losses.NormalizedSoftmaxLoss(num_classes=120, embedding_size=20, temperature=0.07)
    theirs.W.data = crowded.vectors.mT.clone()
    z, y = torch.randn(16, 20), torch.randint(120, (16,))
    torch.testing.assert_close(EquiangularHead(crowded).loss(z, y), theirs(z, y), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(EquiangularHead(crowded).loss(z, y), cross_entropy(EquiangularHead(crowded)(z), y))
