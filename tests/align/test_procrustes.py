"""The rotation that was hidden is found; what is learned is kept; bad rows are refused in one line."""

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from regraft.align.aligner import load_map
from regraft.align.aligners.procrustes import Procrustes
from regraft.align.linear import stepped
from regraft.errors import InputError, ParameterError
from regraft.method import resolve

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5))
ROTATION = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
NOISY = X @ ROTATION + 0.3 * RNG.normal(size=(60, 5))


def test_a_hidden_rotation_is_found_and_new_rows_follow_it():
    found = Procrustes(steps="none").fit(X, X @ ROTATION)
    np.testing.assert_allclose(found.rotation_, ROTATION, atol=1e-9)
    new = RNG.normal(size=(7, 5))
    np.testing.assert_allclose(found.transform(new), new @ ROTATION, atol=1e-9)
    assert Procrustes().fit(X, 3 * X @ ROTATION).score(X, X @ ROTATION) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("steps", ["none", "unit", "unit-center-unit"])
def test_it_is_orthogonal_and_no_rotation_is_closer(steps):
    found = Procrustes(steps=steps).fit(X, NOISY)
    np.testing.assert_allclose(found.rotation_.T @ found.rotation_, np.eye(5), atol=1e-9)
    x, y = stepped(X, steps, found.source_mean_), stepped(NOISY, steps, found.target_mean_)
    np.testing.assert_allclose(found.rotation_, orthogonal_procrustes(x, y)[0], atol=1e-9)
    for _ in range(20):
        other = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
        assert np.linalg.norm(x @ found.rotation_ - y) < np.linalg.norm(x @ other - y)


def test_spaces_of_other_dimensions_meet_in_the_smaller():
    wide = np.hstack([X @ ROTATION, np.zeros((60, 3))])
    found = Procrustes(steps="none").fit(X, wide)
    np.testing.assert_allclose(found.transform(X), wide, atol=1e-9)
    np.testing.assert_allclose(Procrustes(steps="none").fit(wide, X).transform(wide), X, atol=1e-9)


def test_it_is_scikit_learns_and_is_kept_without_a_pickle(tmp_path):
    found = resolve("aligner", "procrustes", {"steps": "unit"})
    assert clone(found).get_params() == {"steps": "unit"}
    found.fit(X, NOISY).save_into(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.json", "map.safetensors"]
    again = load_map(tmp_path)
    assert again.get_params() == found.get_params()
    np.testing.assert_array_equal(again.transform(X), found.transform(X))


NO_DIRECTION = {"check_estimators_dtypes": "its target is one column of one sign: after unit-center-unit no row has a direction"}


@parametrize_with_checks([Procrustes()], expected_failed_checks=lambda _: NO_DIRECTION)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_what_no_map_can_be_learned_from_is_refused(tmp_path):
    broken = X.copy()
    broken[3, 1] = np.nan
    for x, y, says in (
        (broken, NOISY, "Input X contains NaN"),
        (X, NOISY[:5], r"inconsistent numbers of samples: \[60, 5\]"),
        (X[:0], NOISY[:0], r"Found array with 0 sample"),
        (X[0], NOISY, r"Expected 2D array, got 1D array"),
        (np.ones((4, 3)), np.ones((4, 3)), "no pair has a direction"),
    ):
        with pytest.raises(ParameterError, match=f"^procrustes: .*{says}") as caught:
            Procrustes().fit(x, y)
        assert "\n" not in str(caught.value)
    with pytest.raises(ParameterError, match="X has 4 features, but Procrustes is expecting 5 features"):
        Procrustes().fit(X, NOISY).transform(X[:, :4])
    with pytest.raises(InputError, match="not a map"):
        load_map(tmp_path)
