"""Neighbours are those of a float64 matrix and a stable sort; CSLS is its definition; a hub fools cosines more than CSLS."""

import numpy as np
import pytest

from regraft.align.aligner import unit_rows
from regraft.align.nearest import Retrieval, hubness, mutual, nearest, nearest_both, unit_float32
from regraft.align.nearest import search as machinery
from regraft.errors import ParameterError

RNG = np.random.default_rng(0)


def table(n, d=12, seed=0):
    return unit_float32(np.random.default_rng(seed).normal(size=(n, d)))


def naive(left, right, k, offsets=0.0):
    """Products summed in one order, so that equal rows have equal products; sorted by score, then by id."""
    scores = np.zeros((len(left), len(right)))
    for column in range(left.shape[1]):
        scores += np.outer(left[:, column].astype(np.float64), right[:, column].astype(np.float64))
    scores = scores - offsets
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return ids, np.take_along_axis(scores, ids, 1)


@pytest.mark.parametrize(("n", "m", "k"), [(1, 1, 1), (70, 5, 3), (2500, 4300, 10), (3, 40, 40), (5, 7, 100)])
def test_neighbours_are_those_of_the_whole_matrix_in_both_directions(n, m, k):
    left, right = table(n), table(m, seed=1)
    forth, back = nearest_both(left, right, k)
    ahead, behind = naive(left, right, k), naive(right, left, k)
    for found, (ids, scores) in ((forth, ahead), (back, behind), (nearest(left, right, k), ahead)):
        np.testing.assert_array_equal(found.ids, ids)
        np.testing.assert_allclose(found.scores, scores, rtol=0, atol=1e-14)


@pytest.mark.parametrize("copies", [30, 600])
def test_equal_rows_come_by_id_also_where_they_are_more_than_are_looked_at(copies):
    right = np.vstack([table(900, seed=2), np.repeat(table(1, seed=3), copies, 0)])
    right = right[RNG.permutation(len(right))]
    left = np.vstack([table(50), table(1, seed=3)])
    np.testing.assert_array_equal(nearest(left, right, 5).ids, naive(left, right, 5)[0])


def test_what_float32_cannot_tell_apart_float64_does():
    base = table(1, 64)[0]
    steps = np.linspace(0, 3e-7, 400, dtype=np.float64)[RNG.permutation(400)]
    right = np.array([base * (1 + step) for step in steps], dtype=np.float32)
    np.testing.assert_array_equal(nearest(base[None], right, 20).ids, naive(base[None], right, 20)[0])


def test_a_row_of_zeros_has_no_neighbours_and_is_nobodys():
    left, right = table(6), table(9, seed=1)
    left[2], right[[0, 4]] = 0, 0
    right[1] = -left.sum(0)  # every cosine is below 0, so a zero would be better
    found = nearest(left, right[[0, 1, 4]], 3)
    assert found.ids.tolist() == [[1], [1], [-1], [1], [1], [1]]
    assert np.isneginf(found.scores[2]).all()
    assert hubness(left, right, 2)[0][2] == 0
    assert nearest(left, np.zeros((4, 12)), 2).ids.shape == (6, 0)


def test_tiles_of_any_size_give_the_same(monkeypatch):
    left, right = table(130), table(95, seed=1)
    wanted = nearest_both(left, right, 4, left_offsets=RNG.random(130), right_offsets=(offsets := RNG.random(95)))[1].ids
    monkeypatch.setattr(machinery, "TILE", (16, 7))
    np.testing.assert_array_equal(nearest(left, right, 4, offsets=offsets).ids, naive(left, right, 4, offsets)[0])
    assert wanted.shape == (95, 4)


def csls_by_definition(left, right, k):
    cosines = left.astype(np.float64) @ right.astype(np.float64).T
    own = np.sort(cosines, axis=1)[:, ::-1][:, :k].mean(1)
    other = np.sort(cosines, axis=0)[::-1][:k].mean(0)
    return 2 * cosines - own[:, None] - other


@pytest.mark.parametrize("k", [1, 10])
def test_csls_is_its_definition(k):
    left, right = table(80), table(110, seed=1)
    scores = csls_by_definition(left, right, k)
    space = Retrieval(left, right, k)
    for found, whole in ((space.search(None, 110), scores), (space.search_back(None, 80), scores.T), (space.best_both(80)[1], scores.T)):
        np.testing.assert_allclose(found.scores, -np.sort(-whole, axis=1), atol=1e-6)
        np.testing.assert_array_equal(found.ids[:, 0], whole.argmax(1))
    np.testing.assert_array_equal(space.search(np.array([7, 3]), 5).ids, space.search(None, 5).ids[[7, 3]])


def test_with_all_rows_as_neighbours_csls_is_the_cosine_less_a_mean():
    left, right = table(40), table(60, seed=1)
    cosines = left.astype(np.float64) @ right.astype(np.float64).T
    wanted = np.argsort(-(cosines - cosines.mean(0) / 2), axis=1)
    np.testing.assert_array_equal(Retrieval(left, right, 60).search(None, 60).ids, wanted)


def test_pairs_are_mutual():
    left, right = table(50), table(60, seed=1)
    forth, back = nearest_both(left, right, 1)
    cosines = left @ right.T
    wanted = [(i, j) for i, j in enumerate(cosines.argmax(1)) if cosines.argmax(0)[j] == i]
    assert mutual(forth, back).tolist() == [list(map(int, pair)) for pair in wanted]


def test_hubs_near_the_mean_hurt_cosines_more_than_csls():
    rng = np.random.default_rng(5)
    source = rng.normal(size=(800, 20)) + 2
    target = source + rng.normal(size=source.shape)
    hubs = source.mean(0) + 0.05 * rng.normal(size=(1000, 20))
    queries = np.arange(800)

    def hits(right, criterion):
        found = Retrieval(unit_float32(source), unit_float32(right), 10).search(queries, 1, criterion)
        return (found.ids[:, 0] == queries).mean()

    crowded = np.vstack([target, hubs])
    lost = {criterion: hits(target, criterion) - hits(crowded, criterion) for criterion in ("nn", "csls")}
    assert lost["nn"] > lost["csls"] + 0.03
    assert hits(crowded, "csls") > hits(crowded, "nn") + 0.03


def test_unit_rows_have_length_one_or_are_noise():
    rows = np.array([[3.0, 4.0], [0, 0], [1e-12, 0]])
    np.testing.assert_allclose(unit_float32(rows), [[0.6, 0.8], [0, 0], [1e-4, 0]], rtol=1e-6)
    np.testing.assert_allclose(unit_float32(table(9)), unit_rows(table(9)), atol=1e-7)


def test_what_cannot_be_searched_is_one_line():
    for left, right, k, says in (
        (table(3), table(3, 5), 1, "12 and 5 dimensions"),
        (table(3), table(3), 0, "k=0 neighbours"),
        (np.full((2, 2), np.nan), np.ones((2, 2)), 1, "finite numbers"),
    ):
        with pytest.raises(ParameterError, match=says):
            nearest(left, right, k)
