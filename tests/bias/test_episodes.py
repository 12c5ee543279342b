"""Losses of episodes, the ICNN score, the sampler: closed forms, invariances, the literal loop, the library's own loss, bad input."""

import math

import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from torch import nn

from regraft.bias import EpisodeLoss, EpisodeSampler, ICNNLoss, ProtoNetLoss, ProtoTripletLoss, icnn_score
from regraft.bias.episodes.distances import FlooredDistance
from regraft.bias.episodes.losses import CONFIGURATIONS, prototypes, squared
from regraft.errors import ParameterError


def points(seed=0, classes=5, each=6, dim=8, spread=1.0):
    draw = torch.Generator().manual_seed(seed)
    centers = torch.randn(classes, dim, generator=draw, dtype=torch.float64)
    y = torch.arange(classes).repeat_interleave(each)
    return centers[y] + spread * torch.randn(len(y), dim, generator=draw, dtype=torch.float64), y


def literal(x, y, ref, ref_y, k=4, fetched=None, eps=1e-7, drop_first=False, same_set=True):
    """The score, point by point as the method's description has it."""
    sure = k + 2 >= len(ref)
    k = len(ref) - 2 if sure else k
    fetched = fetched or k + 1
    near, far, shares, others = [], [], [], []
    for i in range(len(x)):
        found = sorted(
            (math.sqrt(sum((a - b) ** 2 for a, b in zip(x[i].tolist(), ref[j].tolist(), strict=True)) + 1e-6), int(ref_y[j] == y[i]))
            for j in range(len(ref))
            if drop_first or not (same_set and i == j)
        )
        found = found[1 : fetched + 1] if drop_first else found[:fetched]
        rival = min((d for d, same in found if not same), default=math.inf)
        close = found[:k]
        ratios = [d / (rival + eps) for d, _ in close]
        top = max(1.0, *ratios)
        ours = [ratio / top for ratio, (_, same) in zip(ratios, close, strict=True) if same]
        if ours:
            near.append(sum(ours) / len(ours))
        if theirs := [d for d, same in close if not same]:
            far.append(sum(theirs) / len(theirs))
            others += theirs
        shares.append(len(ours) / k)
    lam_same = 1 - (sum(near) / len(near) if near else 0)
    lam_diff = sum(far) / len(far) / max(others) if others else 1.0
    return ((lam_same + lam_diff) / 2 + (1.0 if sure else sum(shares) / len(shares))) / 2


@pytest.mark.parametrize("k", [1, 4, 7])
@pytest.mark.parametrize("compat", ["paper", "released"])
def test_the_score_is_that_of_the_literal_loop(k, compat):
    x, y = points()
    drop = compat == "released"
    assert icnn_score(x, y, k=k, compat=compat).value == pytest.approx(literal(x, y, x, y, k, drop_first=drop), abs=1e-12)
    asked, theirs = points(seed=1, each=3)
    own = icnn_score(asked, theirs, x, y, k=k, compat=compat).value
    assert own == pytest.approx(literal(asked, theirs, x, y, k, drop_first=drop, same_set=False), abs=1e-12)
    full = ICNNLoss(k, 6 if k < 6 else None, compat=compat)(x, y)
    assert float(full.neg().exp()) == pytest.approx(literal(x, y, x, y, k, 6 if k < 6 else None, drop_first=drop), abs=1e-12)


def test_few_points_make_k_smaller_and_the_share_certain():
    x, y = points(classes=3, each=2)
    found = icnn_score(x, y, k=4)
    assert found.parts["share"] == 1
    assert found.value == pytest.approx(literal(x, y, x, y, 4), abs=1e-12)


def test_separable_clusters():
    x, y = points(spread=0.01)
    found = icnn_score(x, y)
    assert found.parts["share"] == 1
    assert found.parts["other_classes"] == 1
    assert 0.98 < found.value <= 1
    assert all(value > 0.97 for value in found.by_class.values())
    assert float(ICNNLoss()(x, y)) == pytest.approx(-math.log(found.value))


def test_the_score_stays_in_its_range_and_does_not_depend_on_the_frame():
    x, y = points(seed=3, spread=3)
    base = icnn_score(x, y).value
    assert 0 < base < 1
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64))[0]
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(5))
    for other, labels in ((x @ turn, y), (x + 7, y), (100 * x, y), (x[order], y[order])):
        assert icnn_score(other, labels).value == pytest.approx(base, abs=1e-6)
    parted = icnn_score(x, y).by_point
    assert torch.allclose(icnn_score(x[order], y[order]).by_point, parted[order])


def test_a_second_point_in_the_same_place_is_a_neighbour():
    x, y = points(classes=2, each=5)
    doubled, labels = torch.cat([x, x]), torch.cat([y, 1 - y])  # each has a twin of the other class at distance 0
    found = icnn_score(doubled, labels, k=1)
    assert found.parts["share"] == 0
    assert icnn_score(torch.cat([x, x]), torch.cat([y, y]), k=1).parts["share"] == 1


def test_one_shot_support_has_no_neighbour_of_its_class():
    x, y = points(classes=12, each=1)
    found = icnn_score(x, y)
    assert found.parts["same_class"] == 1
    assert found.parts["share"] == 0


def test_the_earlier_score():
    x, y = points(spread=1.5)
    for omega in (False, True):
        found = icnn_score(x, y, variant="original", use_omega=omega, k=5)
        assert 0 < found.value <= 1
        assert icnn_score(3 * x, y, variant="original", use_omega=omega, k=5).value == pytest.approx(found.value, abs=1e-5)
        tight = icnn_score(*points(spread=0.01), variant="original", use_omega=omega, k=5)
        assert tight.value > found.value
    two = torch.tensor([[0.0], [1.0], [3.0]], dtype=torch.float64)  # k = 1: every nd is 0
    found = icnn_score(two, torch.tensor([0, 0, 1]), variant="original", k=1)
    assert found.by_point.tolist() == pytest.approx([1.0, 1.0, 0.0])


def test_blocks_change_nothing():
    from regraft.bias.episodes.icnn import neighbours

    x, y = points(each=30)
    whole = neighbours(x, y, x, y, 7, FlooredDistance(), same_set=True, drop_first=False)
    parts = neighbours(x, y, x, y, 7, FlooredDistance(), same_set=True, drop_first=False, block=17)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


@pytest.mark.parametrize("loss", [ProtoTripletLoss(), ICNNLoss(), ICNNLoss(variant="original", use_omega=True), ProtoNetLoss()])
def test_gradients(loss):
    x, y = points(classes=3, each=4, dim=3, spread=1.0)
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: loss(rows, y), (x,))
    support = x.detach()[::2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda q, s: loss(q, y, ref_emb=s, ref_labels=y[::2]), (x, support))


def test_proto_triplet_is_the_librarys_with_the_hardest_prototype():
    x, y = points(spread=2)
    support, labels = points(seed=0, spread=0.5)
    centers, names = prototypes(support, labels)
    d = FlooredDistance(floor=0.0)(x, centers)
    hardest = centers[d.masked_fill(y[:, None] == names, torch.inf).argmin(1)]
    wanted = nn.TripletMarginLoss(margin=0.5, eps=0)(x, centers[y], hardest)
    found = ProtoTripletLoss(distance=FlooredDistance(floor=0.0))(x, y, ref_emb=support, ref_labels=labels)
    assert float(found) == pytest.approx(float(wanted), abs=1e-12)


def test_proto_triplet_is_nought_where_every_margin_is_kept():
    support = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    y = torch.tensor([0, 1])
    inside = torch.tensor([[4.74, 0.0], [5.26, 0.0]])  # the margin is 0.52
    assert float(ProtoTripletLoss()(inside, y, ref_emb=support, ref_labels=y)) == 0
    outside = torch.tensor([[4.76, 0.0], [5.24, 0.0]])  # 0.48
    assert float(ProtoTripletLoss()(outside, y, ref_emb=support, ref_labels=y)) == pytest.approx(0.02, abs=1e-5)


def test_a_batch_is_its_own_support_without_the_point_itself():
    x, y = points(classes=3, each=4)
    keep = torch.ones(len(y), dtype=torch.bool)
    values = []
    for i in range(len(y)):
        keep[i] = False
        values.append(float(ProtoTripletLoss()(x[i : i + 1], y[i : i + 1], ref_emb=x[keep], ref_labels=y[keep])))
        keep[i] = True
    assert float(ProtoTripletLoss()(x, y)) == pytest.approx(sum(values) / len(values), abs=1e-9)
    alone = torch.cat([x, x[:1] + 9]), torch.cat([y, torch.tensor([3])])  # the fourth class has one point: no prototype without it
    assert torch.isfinite(ProtoTripletLoss()(*alone))


def test_other_distances():
    x, y = points()
    near = FlooredDistance(floor=0.0)(nn.functional.normalize(x), nn.functional.normalize(x)).square() / 2  # = 1 - cosine
    assert icnn_score(x, y, distance=CosineSimilarity()).value != icnn_score(x, y).value
    from regraft.bias.episodes.distances import how_far

    assert torch.allclose(how_far(CosineSimilarity(), x, x), near, atol=1e-12)
    assert torch.isfinite(ProtoTripletLoss(distance=CosineSimilarity())(x, y))


def test_protonet_takes_squared_distances_and_terms_are_averaged():
    x, y = points()
    support, labels = points(seed=7, each=2)
    centers, _ = prototypes(support, labels)
    wanted = nn.functional.cross_entropy(-squared(x, centers), y)
    episode = {"ref_emb": support, "ref_labels": labels}
    assert float(ProtoNetLoss()(x, y, **episode)) == pytest.approx(float(wanted))
    parts = {name: float(EpisodeLoss((name,))(x, y, **episode)) for name in ("cross", "prototriplet", "suppicnn", "queryicnn", "fullicnn")}
    for terms in CONFIGURATIONS.values():
        assert float(EpisodeLoss(terms)(x, y, **episode)) == pytest.approx(sum(parts[t] for t in terms) / len(terms))
    both, all_labels = torch.cat([support, x]), torch.cat([labels, y])
    assert parts["fullicnn"] == pytest.approx(-math.log(literal(both, all_labels, both, all_labels, 4, 8)), abs=1e-9)
    assert parts["queryicnn"] == pytest.approx(-math.log(literal(x, y, support, labels, 4, same_set=False)), abs=1e-9)
    protos = EpisodeLoss(("queryicnn",), query_protos=True)(x, y, **episode)
    assert float(protos) == pytest.approx(-math.log(literal(x, y, *prototypes(support, labels), 4, same_set=False)), abs=1e-9)


def test_one_shot_leaves_suppicnn_out_unless_the_release_is_asked_for():
    x, y = points()
    episode = {"ref_emb": prototypes(x, y)[0], "ref_labels": y.unique()}
    cross = float(EpisodeLoss(("cross",))(x, y, **episode))
    assert float(EpisodeLoss(("cross", "suppicnn"))(x, y, **episode)) == pytest.approx(cross)
    assert float(EpisodeLoss(("cross", "suppicnn"), compat="released")(x, y, **episode)) != pytest.approx(cross)
    with pytest.raises(ParameterError, match="nothing to compare"):
        EpisodeLoss(("suppicnn",))(x, y, **episode)


def test_the_score_falls_with_noise_and_follows_nearest_neighbours():
    from scipy.stats import spearmanr
    from sklearn.datasets import load_digits
    from sklearn.neighbors import KNeighborsClassifier

    X, y = load_digits(return_X_y=True)
    X, y = X[:600] / 16, y[:600]
    labels = torch.tensor(y)
    pixels, held = torch.tensor(X[300:]), labels[300:]
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = [icnn_score(pixels + scale * noise, held).value for scale in (0, 0.3, 0.6)]
    assert values == sorted(values, reverse=True)
    assert values[0] > values[2] + 0.05
    shuffled = icnn_score(torch.tensor(X), labels[torch.randperm(600, generator=torch.Generator().manual_seed(0))])
    assert shuffled.parts["share"] == pytest.approx(0.1, abs=0.03)
    scores, hits = [], []
    for seed in range(10):
        width = 1 + seed
        way = torch.randn(64, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).numpy()
        rows = X @ way
        scores.append(icnn_score(torch.tensor(rows[300:]), labels[300:]).value)
        hits.append(KNeighborsClassifier(1).fit(rows[:300], y[:300]).score(rows[300:], y[300:]))
    assert spearmanr(scores, hits).statistic > 0.8


def test_support_and_queries_of_an_episode_are_different_examples():
    labels = torch.arange(6).repeat_interleave(5)
    sampler = EpisodeSampler(labels, way=4, shot=2, queries=3, episodes=20, seed=1)
    found = list(sampler)
    assert len(found) == len(sampler) == 20
    for picked in found:
        assert len(set(picked)) == len(picked) == 4 * 5
        support, query = labels[picked[:8]].view(4, 2), labels[picked[8:]].view(4, 3)
        assert torch.equal(support[:, :1].expand(4, 2), support)
        assert torch.equal(support[:, :1].expand(4, 3), query)
    assert found == list(EpisodeSampler(labels, way=4, shot=2, queries=3, episodes=20, seed=1))


def test_bad_input():
    labels = torch.arange(6).repeat_interleave(5)
    with pytest.raises(ParameterError, match="episodes of 7 classes from 6"):
        EpisodeSampler(labels, way=7, shot=1, queries=1, episodes=1)
    with pytest.raises(ParameterError, match=r"class 0 has 5 examples, an episode needs 3 \+ 3"):
        EpisodeSampler(labels, way=2, shot=3, queries=3, episodes=1)
    x, y = points()
    with pytest.raises(ParameterError, match="1 of 30 points are not finite"):
        icnn_score(x.index_fill(0, torch.tensor([4]), torch.nan), y)
    with pytest.raises(ParameterError, match="give 3 or more"):
        icnn_score(x[:2], y[:2])
    with pytest.raises(ParameterError, match=r"\(n, d\) and \(n,\)"):
        icnn_score(x, y[:-1])
    with pytest.raises(ParameterError, match=r"fetch k \+ 1 or more"):
        ICNNLoss(4, 4)
    with pytest.raises(ParameterError, match="an episode of 1 class"):
        ProtoTripletLoss()(x[:6], y[:6])
    with pytest.raises(ParameterError, match="has no support"):
        ProtoTripletLoss()(x, y, ref_emb=x[:12], ref_labels=y[:12])
    with pytest.raises(ParameterError, match="choose from cross"):
        EpisodeLoss(("crosss",))
    with pytest.raises(ParameterError, match="leave indices_tuple out"):
        ICNNLoss()(x, y, (y, y, y))
