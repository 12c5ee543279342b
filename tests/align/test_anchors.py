"""Anchors stay what they were, in their order; each sampler keeps its promise; what can't be chosen is refused in one line."""

import json

import numpy as np
import pytest

from regraft.align.anchors import SAMPLERS, AnchorSet, draw_anchors, parallel_anchors
from regraft.errors import InputError, ParameterError

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(90, 6))
LABELS = np.repeat(["a", "b", "c"], [60, 20, 10])


def test_a_set_is_kept_and_encoded_again(tmp_path):
    chosen = AnchorSet.of_texts(["one", "two", "one", " ", "three"], encoder="first", method="given")
    assert chosen.ids == ("one", "two", "three")
    again = AnchorSet.load(chosen.save(tmp_path / "anchors.json"))
    assert again == chosen
    rows = again.for_encoder("second").encode(lambda texts: np.array([[len(text), 1.0] for text in texts]))
    np.testing.assert_array_equal(rows, [[3, 1], [3, 1], [5, 1]])
    with pytest.raises(ParameterError, match=r"shape \(2, 2\) for 3 samples"):
        again.encode(lambda texts: np.zeros((2, 2)))
    with pytest.raises(ParameterError, match="ids only"):
        AnchorSet(("7",)).encode(len)


def test_the_order_must_be_shared():
    one, other = AnchorSet(("a", "b", "c")), AnchorSet(("a", "c", "b"))
    one.check_shared(one.for_encoder("another"))
    assert one.order_hash != other.order_hash
    with pytest.raises(ParameterError, match="'b' and 'c' stand at place 1"):
        one.check_shared(other)
    with pytest.raises(ParameterError, match="3 on one side and 2 on the other"):
        one.check_shared(AnchorSet(("a", "b")))
    np.testing.assert_array_equal(other.positions(["x", "c", "b", "a", "c"]), [3, 1, 2])
    with pytest.raises(ParameterError, match=r"1 of 3 are not in this space \('b'\)"):
        one.positions(["a", "c"])
    with pytest.raises(ParameterError, match="1 of them are test items"):
        one.check_apart(["z", "b"])


def test_parallel_sets_share_their_pairs():
    left, right = parallel_anchors(["good", "bad", "good"], ["gut", "schlecht", "gut"], encoders=("en", "de"))
    left.check_shared(right)
    assert (left.samples, right.samples) == (("good", "bad"), ("gut", "schlecht"))
    assert (left.encoder, right.encoder, left.method) == ("en", "de", "parallel")
    with pytest.raises(ParameterError, match="2 on the left, 1 on the right"):
        parallel_anchors(["a", "b"], ["c"])


def test_what_is_no_set_is_refused(tmp_path):
    path = AnchorSet(("a", "b")).save(tmp_path / "anchors.json")
    about = json.loads(path.read_text())
    for change, says in (({"ids": ["b", "a"]}, "hash differs"), ({"schema": 9}, "newer regraft"), ({"ids": None}, "not an anchor set")):
        path.write_text(json.dumps(about | change))
        with pytest.raises(InputError, match=says):
            AnchorSet.load(path)
    path.write_text("[1, 2")
    with pytest.raises(InputError, match="not an anchor set"):
        AnchorSet.load(path)
    with pytest.raises(InputError, match="not an anchor set"):
        AnchorSet.load(tmp_path / "nowhere.json")
    for ids, samples, says in (
        ((), None, "none given"),
        (("a", "a"), None, "'a' is there twice"),
        (("a",), ("x", "y"), "2 samples for 1 ids"),
    ):
        with pytest.raises(ParameterError, match=says):
            AnchorSet(ids, samples)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_draws_different_rows_from_those_that_it_may(sampler):
    copies = np.vstack([ROWS, ROWS[:30]])
    given = {"rows": copies, "labels": np.tile(LABELS, 2)[:120], "counts": np.arange(120)}
    among = np.arange(0, 120, 2)
    found = draw_anchors(20, sampler=sampler, among=among, seed=3, **given)
    assert len(set(found.tolist())) == 20
    assert set(found.tolist()) <= set(among.tolist())
    assert len(np.unique(copies[found], axis=0)) == 20
    np.testing.assert_array_equal(found, draw_anchors(20, sampler=sampler, among=among, seed=3, **given))
    whole = draw_anchors(90, sampler=sampler, **given)
    assert sorted(whole) == list(range(90))
    with pytest.raises(ParameterError, match="91 asked for, and there are 90 different rows"):
        draw_anchors(91, sampler=sampler, **given)


def test_stratified_is_balanced_to_one():
    for k in (1, 7, 29, 30):
        counts = np.unique(LABELS[draw_anchors(k, sampler="stratified", labels=LABELS, seed=k)], return_counts=True)[1]
        assert counts.max() - (counts.min() if len(counts) == 3 else 0) <= 1
    assert sorted(np.unique(LABELS[draw_anchors(50, sampler="stratified", labels=LABELS)], return_counts=True)[1]) == [10, 20, 20]


def test_farthest_takes_one_of_each_cluster_and_frequent_the_most_frequent():
    centers = 10 * np.eye(6)
    rows = np.repeat(centers, 15, axis=0) + 0.1 * RNG.normal(size=(90, 6))
    for sampler in ("farthest", "k-means"):
        assert sorted(draw_anchors(6, sampler=sampler, rows=rows, seed=1) // 15) == list(range(6))
    np.testing.assert_array_equal(draw_anchors(3, sampler="frequent", counts=np.array([1, 5, 5, 9])), [3, 1, 2])


def test_farthest_is_what_a_search_over_all_pairs_gives():
    unit = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    found = draw_anchors(10, sampler="farthest", rows=ROWS, seed=5)
    for place in range(1, 10):
        nearest = (unit @ unit[found[:place]].T).max(1)
        nearest[found[:place]] = np.inf
        assert found[place] == nearest.argmin()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"k": 0, "size": 5}, "0 asked for"),
        ({"k": 2}, "nothing given"),
        ({"k": 2, "sampler": "farthest", "size": 5}, "'farthest' needs rows"),
        ({"k": 2, "sampler": "stratified", "size": 5}, "'stratified' needs labels"),
        ({"k": 2, "sampler": "frequent", "size": 5}, "'frequent' needs counts"),
        ({"k": 2, "sampler": "best", "size": 5}, "no sampler 'best'"),
        ({"k": 2, "rows": ROWS, "labels": LABELS[:5]}, "90 rows, 5 labels"),
    ],
)
def test_what_can_not_be_drawn_is_refused(settings, says):
    with pytest.raises(ParameterError, match=says):
        draw_anchors(**settings)
