"""Closed forms: coefficient of variation, ranks, purity, neighbours, dependencies between columns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from regraft.probe.probes.observatory.measures import (
    bootstrap,
    bootstrap_mean,
    bootstrap_spearman,
    containment,
    cosines,
    id_overlap,
    jaccard,
    mcv,
    multiset_jaccard,
    neighbours,
    overlap,
    purity,
    rank_test,
    spearman,
    unary_dependencies,
)

RNG = np.random.default_rng(0)


def test_mcv_is_that_of_the_covariance_matrix_and_needs_no_inverse():
    rows = RNG.normal(size=(6, 40)) + 1.5  # fewer vectors than dimensions: the covariance is singular
    mean, covariance = rows.mean(0), np.cov(rows.T)
    by_matrix = np.sqrt(mean @ covariance @ mean / (mean @ mean) ** 2)
    assert mcv(rows) == pytest.approx(by_matrix, rel=1e-6)


def test_mcv_closed_forms():
    one = RNG.normal(size=(9, 1)) - 3
    assert mcv(one) == pytest.approx(abs(one.std(ddof=1) / one.mean()), rel=1e-12)
    rows = RNG.normal(size=(7, 5)) + 1
    assert mcv(-2.5 * rows) == pytest.approx(mcv(rows), rel=1e-12)
    assert mcv(np.repeat(rows[:1], 8, axis=0)) == 0
    assert np.isnan(mcv(rows[:1]))
    assert np.isnan(mcv(np.array([[1.0, 0], [-1.0, 0]])))  # no mean to vary about
    stacked = RNG.normal(size=(3, 7, 5)) + 1
    assert mcv(stacked) == pytest.approx([float(mcv(part)) for part in stacked])


def test_cosines_are_one_for_equal_rows_to_the_last_bit():
    rows = RNG.normal(size=(50, 33)) * 1e3
    assert (cosines(rows, rows) == 1).all()
    assert cosines(np.array([1.0, 0]), np.array([1.0, 1])) == pytest.approx(0.5**0.5)
    assert np.isnan(cosines(np.zeros(3), np.ones(3)))


def test_spearman_is_scipys_and_leaves_nan_out():
    x, y = RNG.integers(0, 5, 40).astype(float), RNG.normal(size=40)
    assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)
    broken = np.append(y, np.nan)
    assert spearman(np.append(x, 1), broken) == pytest.approx(spearmanr(x, y).statistic)
    assert np.isnan(spearman(np.ones(5), RNG.normal(size=5)))
    assert np.isnan(spearman(x[:2], y[:2]))


def test_purity():
    assert purity([0, 0, 1, 1], "aabb") == 1
    assert purity([0, 0, 0, 0], "aabc") == 0.5
    assert purity([5, 5, 7], "abc") == pytest.approx(2 / 3)


def test_overlap_of_a_space_with_itself_rotated_and_scaled_is_one():
    rows = RNG.normal(size=(60, 8))
    queries = np.arange(0, 60, 2)
    rotation = np.linalg.qr(RNG.normal(size=(8, 8)))[0]
    near = neighbours(rows, queries, 5)
    assert (overlap(near, near) == 1).all()
    assert (overlap(near, neighbours(7 * rows @ rotation, queries, 5)) == 1).all()
    assert not (near == queries[:, None]).any()
    assert (neighbours(rows, queries, 5, own=True)[:, 0] == queries).all()
    assert overlap(near, neighbours(RNG.normal(size=(60, 8)), queries, 5)).mean() < 0.5


def test_overlap_of_ids_counts_them_as_often_as_they_occur():
    assert id_overlap([["a", "a", "b"]], [["a", "b", "a"]])[0] == 1
    assert id_overlap([["a", "a"]], [["a", "b"]])[0] == 0.5
    assert multiset_jaccard("aab", "aab") == 0.5
    assert multiset_jaccard("aab", "abc") == pytest.approx(2 / 6)
    assert (containment("aab", "ac"), jaccard("aab", "ac")) == (0.5, pytest.approx(1 / 3))
    assert np.isnan(containment("", "a"))


def test_dependencies_leave_out_keys_constants_and_empty_cells():
    city = ["Rome", "Pisa", "Lyon", "Rome", "", "Nice"]
    land = ["Italy", "Italy", "France", "Italy", "Spain", "France"]
    key, constant, other = list("123456"), ["x"] * 6, ["a", "b", "a", "c", "a", "b"]
    holds, fails = unary_dependencies([city, land, key, constant, other])
    assert (0, 1) in holds
    assert (1, 0) not in holds
    assert all(2 not in (x, None) and 3 not in (x, y) for x, y in holds)
    assert (0, 4) in fails  # the same determinant without a dependency
    assert all(x in {pair[0] for pair in holds} for x, _ in fails)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.sampled_from("pq")), min_size=1, max_size=12))
def test_dependencies_are_those_of_a_group_by(rows):
    columns = list(zip(*rows, strict=True))
    holds, fails = unary_dependencies(columns)

    def decides(x, y):
        seen = {}
        return all(seen.setdefault(row[x], row[y]) == row[y] for row in rows)

    assert all(decides(x, y) for x, y in holds)
    assert not any(decides(x, y) for x, y in fails)
    for x in range(3):
        for y in set(range(3)) - {x}:
            telling = len(set(columns[x])) > 1 and len(set(columns[y])) > 1 and len(set(columns[x])) < len(rows)
            assert ((x, y) in holds) == (telling and decides(x, y))


def test_rank_test_and_intervals():
    chance, p = rank_test(np.arange(5.0), np.arange(10.0, 15))
    assert chance == 1
    assert p < 0.01
    assert rank_test(np.ones(4), np.ones(4))[0] == 0.5
    values = RNG.normal(size=200)
    low, high = bootstrap(200, lambda drawn: values[drawn].mean(), seed=1)
    assert low < values.mean() < high
    assert high - low == pytest.approx(4 * values.std() / 200**0.5, rel=0.2)
    groups = np.repeat(np.arange(4), 50)
    same = np.repeat(RNG.normal(size=4), 50)  # four values, however often: drawing items would feign certainty
    wide = bootstrap(200, lambda drawn: same[drawn].mean(), groups.tolist(), seed=1)
    narrow = bootstrap(200, lambda drawn: same[drawn].mean(), seed=1)
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])
    assert bootstrap(1, lambda drawn: 1.0) is None
    assert bootstrap_mean(same, groups.tolist(), seed=1) == pytest.approx(wide)
    x, y = RNG.integers(0, 9, 60).astype(float), RNG.normal(size=60)
    y += 0.3 * x
    slow = bootstrap(60, lambda drawn: spearmanr(x[drawn], y[drawn]).statistic, seed=3)
    assert bootstrap_spearman(x, np.append(y[:-1], y[-1]), seed=3) == pytest.approx(slow)
