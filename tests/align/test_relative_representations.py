"""What a rotation and a scale leave alone, what goes back and forth, what is one line when it can't be."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.utils.estimator_checks import parametrize_with_checks

from regraft.align.aligner import load_map, unit_rows
from regraft.align.aligners.relative_representations import RelativeRepresentations, RelativeSpace
from regraft.align.aligners.relative_representations.bootstrap import _surest, grow_anchors, sinkhorn
from regraft.align.aligners.relative_representations.coordinates import layer_norm
from regraft.align.aligners.relative_representations.projections import project, unproject
from regraft.errors import ParameterError
from regraft.method import resolve

RNG = np.random.default_rng(0)
D = 8
X, A = RNG.normal(size=(50, D)), RNG.normal(size=(20, D))
Q = np.linalg.qr(RNG.normal(size=(D, D)))[0]
M = RNG.normal(size=(D, D))


def relative(anchors, rows, **settings):
    return RelativeSpace(**settings).fit(anchors).transform(rows)


# Closed forms


@pytest.mark.parametrize("steps", ["none", "center", "whiten"])
@pytest.mark.parametrize("similarity", ["cosine", "angular", "basis"])
def test_rotations_and_scales_change_nothing(similarity, steps):
    settings = {"similarity": similarity, "steps": steps}
    np.testing.assert_allclose(relative(3.7 * A @ Q, 3.7 * X @ Q, **settings), relative(A, X, **settings), atol=1e-6)


@pytest.mark.parametrize("similarity", ["inner", "euclidean"])
def test_lengths_see_rotations_alone(similarity):
    np.testing.assert_allclose(relative(A @ Q, X @ Q, similarity=similarity), relative(A, X, similarity=similarity), atol=1e-9)
    assert np.abs(relative(2 * A, 2 * X, similarity=similarity) - relative(A, X, similarity=similarity)).max() > 0.1


@pytest.mark.parametrize("settings", [{"similarity": "basis"}, {"steps": "whiten"}])
def test_any_invertible_map_changes_nothing_for_basis_and_whitening(settings):
    np.testing.assert_allclose(relative(A @ M, X @ M, **settings), relative(A, X, **settings), atol=1e-6)


def test_centering_is_blind_to_a_shift():
    np.testing.assert_allclose(relative(A + 5, X + 5, steps="center"), relative(A, X, steps="center"), atol=1e-9)
    assert np.abs(relative(A + 5, X + 5) - relative(A, X)).max() > 0.1


def test_anchors_among_themselves():
    own = relative(A, A)
    np.testing.assert_allclose(own, own.T, atol=1e-12)
    np.testing.assert_allclose(np.diag(own), 1, atol=1e-12)
    order = RNG.permutation(len(A))
    np.testing.assert_allclose(relative(A[order], X), relative(A, X)[:, order], atol=1e-12)


def test_orthonormal_anchors_give_the_unit_rows():
    np.testing.assert_allclose(relative(Q, X), unit_rows(X) @ Q.T, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(relative(Q, X), axis=1), 1, atol=1e-12)


def test_each_similarity_is_its_definition():
    cosine = project(X, A, "cosine")
    np.testing.assert_allclose(project(X, A, "angular"), np.arccos(cosine) / np.pi, atol=1e-12)
    np.testing.assert_allclose(project(X, A, "inner"), X @ A.T / np.sqrt(D), atol=1e-12)
    gaps = X[:, None] - A
    np.testing.assert_allclose(project(X, A, "euclidean"), np.sqrt((gaps**2).sum(2)), atol=1e-9)
    np.testing.assert_allclose(project(X, A, "l1"), np.abs(gaps).sum(2), atol=1e-9)
    np.testing.assert_allclose(project(X, A, "linf"), np.abs(gaps).max(2), atol=1e-9)
    np.testing.assert_allclose(project(X, A, "basis"), np.linalg.lstsq(A.T, X.T, rcond=None)[0].T, atol=1e-9)
    few = A[:5]
    np.testing.assert_allclose(project(X, few, "basis"), np.linalg.lstsq(few.T, X.T, rcond=None)[0].T, atol=1e-9)
    ridge = np.linalg.solve(A @ A.T + 0.3 * np.eye(len(A)), A @ X.T).T
    np.testing.assert_allclose(project(X, A, "basis", ridge=0.3), ridge, atol=1e-9)


@pytest.mark.parametrize("similarity", ["cosine", "angular", "inner", "euclidean", "basis"])
def test_what_spans_the_space_can_be_turned_back(similarity):
    back = unproject(project(X, A, similarity), A, similarity)
    np.testing.assert_allclose(back, unit_rows(X) if similarity in ("cosine", "angular") else X, atol=1e-6)


@pytest.mark.parametrize("steps", ["center", "whiten"])
def test_steps_are_undone(steps):
    space = RelativeSpace(similarity="inner", steps=steps).fit(A + 2)
    np.testing.assert_allclose(space.inverse_transform(space.transform(X)), X, atol=1e-9)


def test_rounding_is_idempotent_and_smooth_steps_stay_where_steps_end():
    rounded = relative(A, X, quantizer="round", width=0.25)
    np.testing.assert_array_equal(np.unique(rounded % 0.25), [0])
    assert np.abs(rounded - relative(A, X)).max() <= 0.125
    smooth = relative(A, X, quantizer="smooth", width=0.25)
    turns = relative(A, X) / 0.25
    np.testing.assert_allclose(smooth, 0.25 * (turns - np.sin(2 * np.pi * turns) / (2 * np.pi)), atol=1e-12)
    assert np.abs(smooth - rounded).mean() < np.abs(relative(A, X) - rounded).mean()


def test_clusters_stand_for_their_members():
    centers = 5 * np.eye(3)
    anchors = np.repeat(centers, 4, axis=0) + 0.05 * RNG.normal(size=(12, 3))
    found = relative(anchors, anchors + 0.05, quantizer="cluster", width=1.0)
    assert len(np.unique(found.round(9), axis=0)) == 3
    np.testing.assert_allclose(
        found[0], project(anchors.reshape(3, 4, 3).mean(1)[:1], anchors.reshape(3, 4, 3).mean(1), "cosine")[0].repeat(4)
    )


def test_chunks_are_pooled():
    parts = [project(X[:, part], A[:, part], "cosine") for part in (slice(0, 3), slice(3, 6), slice(6, 8))]
    pooled = {"concat": np.hstack(parts), "sum": sum(parts), "mean": sum(parts) / 3, "max": np.max(parts, axis=0)}
    for pooling, expected in pooled.items():
        np.testing.assert_allclose(relative(A, X, chunks=3, pooling=pooling), expected, atol=1e-12)
    with pytest.raises(ParameterError, match="chunks=9 of 8 dimensions"):
        RelativeSpace(chunks=9).fit(A)


def test_several_similarities_are_normalised_and_added_up():
    expected = sum(layer_norm(project(X, A, one)) for one in ("cosine", "l1"))
    np.testing.assert_allclose(relative(A, X, similarity=("cosine", "l1")), expected, atol=1e-12)
    assert relative(A, X, similarity=("cosine", "l1"), aggregation="concat").shape == (50, 40)


def test_class_means_are_means_over_the_anchors_of_a_class():
    classes = np.array(list("abcd") * 5)
    found = RelativeSpace(average="class").fit(A, classes).transform(X)
    np.testing.assert_allclose(found[:, 1], relative(A, X)[:, classes == "b"].mean(1), atol=1e-12)
    with pytest.raises(ParameterError, match="requires y"):
        RelativeSpace(average="class").fit(A)


def test_a_space_draws_its_own_anchors():
    labels = np.repeat([0, 1], 25)
    space = RelativeSpace(n_anchors=7, sampler="stratified", random_state=2).fit(X, labels)
    assert sorted(np.bincount(labels[space.anchor_indices_])) == [3, 4]
    np.testing.assert_array_equal(space.anchors_, X[space.anchor_indices_])
    with pytest.raises(ParameterError, match="51 asked for"):
        RelativeSpace(n_anchors=51).fit(X)


def test_rows_without_length_are_zero_and_said_so():
    with pytest.warns(UserWarning, match="1 of 2 rows have length 0"):
        found = relative(A, np.vstack([X[0], np.zeros(D)]))
    assert not found[1].any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        relative(A, np.zeros((1, D)), similarity="euclidean")


# The map


@pytest.mark.parametrize("similarity", ["cosine", "angular"])
def test_the_map_finds_a_rotated_and_scaled_space(similarity):
    found = RelativeRepresentations(similarity=similarity, restore=False).fit(A, 3 * A @ Q)
    np.testing.assert_allclose(found.transform(X), unit_rows(X @ Q), atol=1e-6)
    assert found.score(X, X @ Q) == pytest.approx(1)


@pytest.mark.parametrize("similarity", ["cosine", "inner", "basis"])
@pytest.mark.parametrize("steps", ["none", "whiten"])
def test_one_matrix_is_both_ways_in_turn(similarity, steps):
    other = A @ M + 1
    found = RelativeRepresentations(similarity=similarity, steps=steps, ridge=0.1).fit(A, other).transform(X)
    space = [RelativeSpace(similarity=similarity, steps=steps, ridge=0.1).fit(one) for one in (A, other)]
    expected = space[1].coordinates_.absolute(space[0].transform(X), restore=True)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_restored_rows_have_the_mean_and_the_scale_of_the_second_space():
    shifted = RelativeRepresentations(similarity="inner", steps="center").fit(A, A @ Q + 4)
    np.testing.assert_allclose(shifted.transform(X), X @ Q + 4, atol=1e-9)
    unit = unit_rows(A)
    whitened = RelativeRepresentations(steps="whiten").fit(A, A @ M + 4)
    assert whitened.score(X, X @ M + 4) > 0.9
    np.testing.assert_allclose(RelativeRepresentations().fit(unit, 5 * unit @ Q).transform(unit), 5 * unit @ Q, atol=1e-9)


def test_relative_coordinates_of_both_sides_are_equal():
    found = RelativeRepresentations(space="relative", steps="center").fit(A, 2 * A @ Q + 1)
    np.testing.assert_allclose(found.relative(2 * X @ Q + 1, "target"), found.transform(X), atol=1e-9)
    assert found.score(X, 2 * X @ Q + 1) == pytest.approx(1)
    with pytest.raises(ParameterError, match="space of 8 dimensions"):
        found.relative(X[:, :3], "target")
    with pytest.raises(ParameterError, match="NaN or infinity"):
        found.relative(np.full((1, D), np.nan), "target")


def test_pairs_that_come_again_are_dropped():
    other = A @ Q
    found = RelativeRepresentations().fit(np.vstack([A, A[:5]]), np.vstack([other, other[:5]]))
    np.testing.assert_array_equal(found.source_anchors_, A)


def test_it_is_kept_without_a_pickle(tmp_path):
    found = resolve("aligner", "relative-representations", {"similarity": ["cosine", "l1"], "space": "relative", "steps": "whiten"})
    assert clone(found).get_params() == found.get_params()
    found.fit(A, A @ Q).save_into(tmp_path)
    again = load_map(tmp_path)
    np.testing.assert_array_equal(again.transform(X), found.transform(X))
    assert again.get_params() == found.get_params()


# Growing anchors


def test_a_plan_meets_both_marginals_or_is_refused():
    cost = RNG.random((30, 40))
    plan = sinkhorn(cost, 0.05)
    np.testing.assert_allclose(plan.sum(1), 1 / 30, rtol=1e-5)
    np.testing.assert_allclose(plan.sum(0), 1 / 40, rtol=1e-5)
    with pytest.raises(ParameterError, match="marginals are off by"):
        sinkhorn(cost, 1e-4, iterations=20)


def test_only_pairs_that_choose_each_other_are_taken_surest_first():
    plan = np.array([[0.20, 0.05, 0.0, 0.0], [0.0, 0.10, 0.15, 0.0], [0.0, 0.01, 0.18, 0.06], [0.0, 0.09, 0.02, 0.14]])
    pairs, mass = _surest(plan, np.array([[0, 0]]), 4)  # row 1 would have column 2, which has row 2
    assert pairs.tolist() == [[0, 0], [2, 2], [3, 3]]
    np.testing.assert_allclose(mass, [1, 0.72, 0.56])
    assert _surest(plan, np.array([[0, 0]]), 2)[0].tolist() == [[0, 0], [2, 2]]


def test_fifteen_seeds_grow_into_pairs_that_are_right():
    rows = RNG.normal(size=(300, 16)) @ np.diag(np.linspace(1, 0.3, 16))
    rotation = np.linalg.qr(RNG.normal(size=(16, 16)))[0]
    shuffled = RNG.permutation(300)
    other = (rows @ rotation + 0.05 * RNG.normal(size=rows.shape))[shuffled]
    partner = np.argsort(shuffled)
    seeds = np.stack([np.arange(15), partner[:15]], axis=1)
    grown = grow_anchors(rows, other, seeds, anchors=200)
    assert len(grown.pairs) > 150
    np.testing.assert_array_equal(grown.pairs[:15], seeds)
    assert (partner[grown.pairs[15:, 0]] == grown.pairs[15:, 1]).mean() > 0.95
    for bad, says in (([[0, 0]], "1 seed pairs"), ([[0, 1], [0, 2]], "each row once"), ([[0, 0], [1, 300]], "within 300")):
        with pytest.raises(ParameterError, match=says):
            grow_anchors(rows, other, bad)
    with pytest.raises(ParameterError, match="at most 4000"):
        grow_anchors(np.zeros((5000, 1)), rows, seeds)


# scikit-learn's own


@parametrize_with_checks([RelativeRepresentations(), RelativeSpace()])
def test_scikit_learns_own_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="relative-representations: .* rows have length 0")
        check(estimator)


def test_bad_input_is_one_line():
    broken = A.copy()
    broken[0, 0] = np.nan
    for x, y, settings, says in (
        (broken, A, {}, "Input X contains NaN"),
        (A, A[:3], {}, r"inconsistent numbers of samples: \[20, 3\]"),
        (A[:0], A[:0], {}, "Found array with 0 sample"),
        (A, A, {"similarity": "l1"}, "can't be turned into vectors: use space=relative"),
        (A, A, {"chunks": 2}, "chunks=1"),
        (np.ones((4, 3)), np.ones((4, 3)), {"steps": "whiten"}, "all alike"),
    ):
        with pytest.raises(ParameterError, match=f"^relative-representations: .*{says}") as caught:
            RelativeRepresentations(**settings).fit(x, y)
        assert "\n" not in str(caught.value)
    with pytest.raises(ParameterError, match="X has 3 features"):
        RelativeRepresentations().fit(A, A).transform(X[:, :3])
    for settings, says in (
        ({"similarity": "best"}, "best"),
        ({"chunks": 0}, "chunks=0"),
        ({"width": 0}, "width=0"),
        ({"ridge": -1}, "ridge=-1"),
    ):
        with pytest.raises(ParameterError, match=says):
            resolve("aligner", "relative-representations", settings)


# Real data


def test_digits_and_their_rotation_agree_on_every_digit():
    digits = load_digits().data.astype(np.float16)
    rotation = np.linalg.qr(RNG.normal(size=(64, 64)))[0]
    turned = 2 * digits.astype(np.float64) @ rotation
    anchors = np.arange(0, 1500, 15)
    left = RelativeSpace(steps="center").fit(digits[anchors]).transform(digits[1500:])
    right = RelativeSpace(steps="center").fit(turned[anchors]).transform(turned[1500:])
    assert left.dtype == np.float64
    np.testing.assert_allclose(left, right, atol=1e-6)
