"""Each measure by its slow definition; ties by id; unrelated spaces agree in nothing but the biased kernel."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from regraft.align.agreement import agree, cosines, linear_cka, nearest, neighbor_overlap, ranks, reciprocal_ranks
from regraft.align.agreement import neighbors as search
from regraft.align.agreement.cka import cka_interval
from regraft.align.agreement.measures import mean_interval
from regraft.errors import ParameterError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 7))
Q = np.linalg.qr(RNG.normal(size=(7, 7)))[0]
NOISY = X @ Q + 0.5 * RNG.normal(size=(60, 7))


@pytest.fixture(params=[1 << 30, 60 * 8 * 7], ids=["one block", "blocks of seven"])
def _blocks(request, monkeypatch):
    monkeypatch.setattr(search, "BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("_blocks")
def test_nearest_is_scikit_learns_exact_search():
    distance, ids = NearestNeighbors(n_neighbors=5, metric="cosine", algorithm="brute").fit(X).kneighbors(NOISY)
    found, scores = nearest(NOISY, X, 5)
    np.testing.assert_array_equal(found, ids)
    np.testing.assert_allclose(scores, 1 - distance, atol=1e-9)
    own = NearestNeighbors(n_neighbors=5, metric="cosine", algorithm="brute").fit(X).kneighbors()[1]
    np.testing.assert_array_equal(nearest(X, X, 5, own=True)[0], own)


@pytest.mark.usefixtures("_blocks")
def test_ties_go_to_the_smaller_id():
    same = np.tile(X[:1], (60, 1))
    np.testing.assert_array_equal(nearest(X[:2], same, 4)[0], [[0, 1, 2, 3]] * 2)
    np.testing.assert_array_equal(nearest(same, same, 3, own=True)[0][[0, 1, 9]], [[1, 2, 3], [0, 2, 3], [0, 1, 2]])
    np.testing.assert_array_equal(ranks(same[:4], same, np.array([0, 5, 1, 59])), [1, 6, 2, 60])
    assert nearest(np.zeros((1, 7)), X, 3)[0].tolist() == [[0, 1, 2]]


@pytest.mark.usefixtures("_blocks")
def test_measures_are_their_definitions():
    unit = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in (X @ Q, NOISY)]
    scores = unit[0] @ unit[1].T
    np.testing.assert_allclose(reciprocal_ranks(X @ Q, NOISY), 1 / (1 + (scores > np.diag(scores)[:, None]).sum(1)))
    np.testing.assert_allclose(cosines(X @ Q, NOISY), np.diag(scores))
    lists = [[set(row) for row in nearest(one, one, 5, own=True)[0]] for one in (X, NOISY)]
    expected = [len(a & b) / len(a | b) for a, b in zip(*lists, strict=True)]
    np.testing.assert_allclose(neighbor_overlap(X, NOISY, 5), expected)
    lists = [[set(row) for row in nearest(X, pool, 5)[0]] for pool in (X, NOISY)]
    expected = [len(a & b) / len(a | b) for a, b in zip(*lists, strict=True)]
    np.testing.assert_allclose(neighbor_overlap(X, NOISY, 5, across=True), expected)


def test_linear_cka_is_the_kernel_formula():
    def centered(kernel):
        return kernel - kernel.mean(0) - kernel.mean(1)[:, None] + kernel.mean()

    K, L = X @ X.T, NOISY @ NOISY.T
    hsic = {(a, b): (centered(k) * centered(m)).sum() for a, k in enumerate((K, L)) for b, m in enumerate((K, L))}
    assert linear_cka(X, NOISY, debiased=False) == pytest.approx(hsic[0, 1] / np.sqrt(hsic[0, 0] * hsic[1, 1]))
    assert linear_cka(X, 3 * X @ Q + 2) == pytest.approx(1)


def test_debiased_is_the_mean_over_quadruples():
    """The U-statistic of HSIC is the mean over ordered quadruples of different samples of K_ij (L_ij + L_kl - 2 L_ik)."""
    from itertools import permutations

    few, other = X[:7], NOISY[:7]

    def hsic(left, right):
        K, L = left @ left.T, right @ right.T
        return np.mean([K[i, j] * (L[i, j] + L[k, m] - 2 * L[i, k]) for i, j, k, m in permutations(range(7), 4)])

    expected = hsic(few, other) / np.sqrt(hsic(few, few) * hsic(other, other))
    assert linear_cka(few, other) == pytest.approx(expected)


def test_unrelated_spaces_agree_only_in_the_biased_kernel():
    left, right = RNG.normal(size=(50, 500)), RNG.normal(size=(50, 500))
    assert linear_cka(left, right, debiased=False) > 0.85
    value = linear_cka(left, right)
    low, high = cka_interval(left, right, value)
    assert abs(value) < 0.1
    assert low < 0 < high
    found = {one.name: one for one in agree(left, right, k=5, draws=200)}
    assert found["jaccard@5"].value < 0.1
    assert abs(found["cosine"].value) < 0.05
    assert found["mrr"].value < 0.2
    assert all(one.low <= one.value <= one.high for one in found.values())


def test_intervals_cover_the_truth():
    inside = 0
    for trial in range(100):
        rng = np.random.default_rng(trial)
        low, high = mean_interval(rng.normal(0.3, 1, 80), 200, trial)
        inside += low <= 0.3 <= high
    assert 88 <= inside <= 100
    truth, inside = linear_cka(*related(np.random.default_rng(99), 40_000)), 0
    for trial in range(60):
        left, right = related(np.random.default_rng(trial), 120)
        low, high = cka_interval(left, right, linear_cka(left, right), draws=200, seed=trial)
        inside += low <= truth <= high
    assert 52 <= inside <= 60


def test_what_can_not_be_told_is_none_in_json():
    import json

    found = [one.to_dict() for one in agree(X[:5], NOISY[:5], draws=20)]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert next(one for one in found if one["measure"] == "cka")["low"] is None


def related(rng, n):
    left = rng.normal(size=(n, 5)) * [3, 2, 1, 1, 1]
    return left, left[:, :3] + rng.normal(size=(n, 3))


def test_an_interval_of_many_rows_is_narrower():
    widths = []
    for n in (1000, 8000):
        left, right = related(np.random.default_rng(1), n)
        low, high = cka_interval(left, right, linear_cka(left, right), draws=100)
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(8**0.5, rel=0.35)


def test_digits_agree_with_what_is_left_of_them():
    digits = load_digits().data[:600]
    half = digits[:, :32]
    found = {one.name: one for one in agree(digits, half, draws=200)}
    assert set(found) == {"jaccard@10", "cka", "cka biased"}  # other dimensions: no cosine, no retrieval
    assert 0.1 < found["jaccard@10"].value < 0.6
    assert found["cka"].low > 0.4
    assert {one.name: one.value for one in agree(digits, 2 * digits, draws=50)} == pytest.approx(
        {"jaccard@10": 1, "jaccard@10 across": 1, "mrr": 1, "cosine": 1, "cka": 1, "cka biased": 1}
    )


@pytest.mark.parametrize(
    ("left", "right", "says"),
    [
        (X, X[:5], "60 and 5 rows"),
        (X[:3], X[:3], "at least 4"),
        (np.full((9, 2), np.nan), np.ones((9, 2)), "NaN"),
        (np.ones((9, 2)), X[:9], "all alike"),
        (X[0], X[0], r"shape \(7,\)"),
    ],
)
def test_bad_input_is_one_line(left, right, says):
    with pytest.raises(ParameterError, match=says):
        agree(left, right)
    with pytest.raises(ParameterError, match="61 neighbors of 60 rows"):
        nearest(X, X, 61)
    with pytest.raises(ParameterError, match="7 and 3 dimensions"):
        nearest(X, X[:, :3], 1)
