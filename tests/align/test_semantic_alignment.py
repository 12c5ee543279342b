"""Each estimation is what its name says, by a library that has it; dimensions may differ."""

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from regraft.align.aligner import load_map
from regraft.align.aligners.semantic_alignment import SemanticAlignment
from regraft.errors import ParameterError
from regraft.method import resolve

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 6)) * [1, 2, 3, 4, 5, 6] + 7
Q = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
Y = X @ Q + 0.2 * RNG.normal(size=(80, 6)) - 3
ESTIMATIONS = ["ortho", "linear", "l-ortho", "affine"]


def standard(rows):
    return StandardScaler().fit_transform(rows)


def test_ortho_is_scipys_procrustes_of_standardised_spaces():
    found = SemanticAlignment().fit(X, Y)
    np.testing.assert_allclose(found.matrix_, orthogonal_procrustes(standard(X), standard(Y))[0], atol=1e-9)
    plain = SemanticAlignment(standardize=False).fit(X, X @ Q)
    np.testing.assert_allclose(plain.matrix_, Q, atol=1e-9)
    np.testing.assert_allclose(plain.transform(X[:3]), X[:3] @ Q, atol=1e-9)


def test_linear_is_least_squares_with_an_intercept():
    new = RNG.normal(size=(5, 6))
    np.testing.assert_allclose(
        SemanticAlignment(estimation="linear").fit(X, Y).transform(new), LinearRegression().fit(X, Y).predict(new), atol=1e-8
    )


def test_l_ortho_is_the_orthogonal_matrix_nearest_to_it():
    linear, nearest = (SemanticAlignment(estimation=one).fit(X, Y).matrix_ for one in ("linear", "l-ortho"))
    np.testing.assert_allclose(nearest @ nearest.T, np.eye(6), atol=1e-9)
    np.testing.assert_allclose(nearest, orthogonal_procrustes(np.eye(6), linear)[0], atol=1e-9)


def test_affine_descends_to_least_squares():
    best, few, many = (
        ((SemanticAlignment(estimation=one, n_steps=steps, lr=0.01).fit(X, Y).transform(X) - Y) ** 2).mean()
        for one, steps in (("linear", 1), ("affine", 5), ("affine", 3000))
    )
    assert few > 10 * best
    assert many == pytest.approx(best, rel=1e-3)
    settings = {"estimation": "affine", "n_steps": 3}
    same = [SemanticAlignment(**settings, random_state=seed).fit(X, Y).transform(X) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(same[0], same[1])
    assert np.abs(same[0] - same[2]).max() > 0


def test_affine_is_torchs_adam():
    torch = pytest.importorskip("torch")
    left, right = (torch.from_numpy(standard(one)) for one in (X, Y))
    start = np.random.default_rng(0).uniform(-1 / 6**0.5, 1 / 6**0.5, (7, 6))
    weights = torch.tensor(start, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=1e-3)
    for _ in range(40):
        optimizer.zero_grad()
        ((left @ weights[:-1] + weights[-1] - right) ** 2).mean().backward()
        optimizer.step()
    found = SemanticAlignment(estimation="affine", n_steps=40).fit(X, Y)
    np.testing.assert_allclose(found.matrix_, weights[:-1].detach().numpy(), atol=1e-7)


@pytest.mark.parametrize("estimation", ESTIMATIONS)
def test_the_smaller_space_gets_zeros(estimation):
    for left, right in ((X, Y[:, :4]), (X[:, :4], Y)):
        found = SemanticAlignment(estimation=estimation, n_steps=2).fit(left, right)
        assert found.transform(left).shape == right.shape
    wide = np.hstack([X @ Q, np.zeros((80, 3))])
    if estimation in ("ortho", "linear"):
        np.testing.assert_allclose(SemanticAlignment(estimation=estimation, standardize=False).fit(X, wide).transform(X), wide, atol=1e-8)


def test_it_is_kept(tmp_path):
    found = resolve("aligner", "semantic_alignment", {"estimation": "l-ortho"}).fit(X, Y[:, :3])
    found.save_into(tmp_path)
    np.testing.assert_array_equal(load_map(tmp_path).transform(X), found.transform(X))


@parametrize_with_checks([SemanticAlignment(estimation=one, n_steps=3) for one in ("ortho", "affine")])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_bad_input_is_one_line():
    for x, y, says in ((np.full((3, 2), np.nan), Y[:3], "NaN"), (X, Y[:5], r"\[80, 5\]"), (X[:0], Y[:0], "0 sample")):
        with pytest.raises(ParameterError, match=f"^semantic-alignment: .*{says}"):
            SemanticAlignment().fit(x, y)
    with pytest.raises(ParameterError, match="estimation='best' is not accepted"):
        resolve("aligner", "semantic-alignment", {"estimation": "best"})
