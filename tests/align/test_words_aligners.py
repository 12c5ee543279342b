"""Maps of words: closed forms, invariants, and what scikit-learn asks of an estimator."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from regraft.align.aligner import load_map
from regraft.align.aligners.least_squares import LeastSquares
from regraft.align.aligners.procrustes import Procrustes
from regraft.align.aligners.rcsls import RCSLS
from regraft.align.aligners.refined_procrustes import RefinedProcrustes
from regraft.align.aligners.vecmap import VecMap
from regraft.align.aligners.vecmap.learning import induce, spectral_start
from regraft.align.linear import Spaces
from regraft.align.nearest import Retrieval, unit_float32
from regraft.errors import ParameterError
from regraft.method import resolve

RNG = np.random.default_rng(0)


def clustered(n, d, seed=0):
    """Rows as words lie: a spectrum that falls, some of them near to each other."""
    rng = np.random.default_rng(seed)
    return ((rng.normal(size=(n, d)) + rng.normal(size=(12, d))[rng.integers(12, size=n)]) / np.arange(1, d + 1) ** 0.4).astype(np.float32)


SOURCE = clustered(400, 16)
ROTATION = np.linalg.qr(np.random.default_rng(1).normal(size=(16, 16)))[0]
SHUFFLE = np.random.default_rng(2).permutation(400)
TARGET = np.empty_like(SOURCE)
TARGET[SHUFFLE] = SOURCE @ ROTATION  # word i is translated by word SHUFFLE[i]
NOISY = (TARGET + 0.25 * np.random.default_rng(3).normal(size=TARGET.shape)).astype(np.float32)
PAIRS = np.column_stack([np.arange(400), SHUFFLE])


def fitted(method, target=NOISY, count=40, source=SOURCE):
    pairs = PAIRS[:count]
    return method.fit(source[pairs[:, 0]], target[pairs[:, 1]], source=source, target=target, pairs=pairs)


def precision(method, target=NOISY, words=slice(200, 400)):
    space = Retrieval(*method.in_one_space(SOURCE, target))
    return (space.search(np.arange(400)[words], 1).ids[:, 0] == SHUFFLE[words]).mean()


ALL = [Procrustes(), LeastSquares(), RefinedProcrustes(), RCSLS(), VecMap(), VecMap(mode="semi-supervised", stochastic=(0.5, 2.0, 3))]


@pytest.mark.parametrize("method", ALL, ids=str)
def test_a_hidden_rotation_is_found_whole(method):
    assert precision(fitted(clone(method), TARGET), TARGET, slice(None)) == 1.0


@pytest.mark.parametrize("method", ALL, ids=str)
def test_it_is_kept_without_a_pickle(method, tmp_path):
    found = fitted(clone(method))
    found.save_into(tmp_path)
    again = load_map(tmp_path)
    np.testing.assert_array_equal(again.transform(SOURCE), found.transform(SOURCE))
    np.testing.assert_array_equal(again.transform_target(NOISY), found.transform_target(NOISY))
    np.testing.assert_array_equal(fitted(clone(method)).map_, found.map_)  # the same each time


def test_means_are_over_words_of_the_whole_table():
    found = fitted(Procrustes())
    unit = SOURCE / np.linalg.norm(SOURCE, axis=1, keepdims=True)
    np.testing.assert_allclose(found.source_mean_, unit.astype(np.float64).mean(0), atol=1e-7)
    np.testing.assert_allclose(found.rotation_.T @ found.rotation_, np.eye(16), atol=1e-9)


class TestLeastSquares:
    def test_no_map_is_closer_and_of_several_it_is_the_shortest(self):
        x, y = SOURCE[:40].astype(float), NOISY[SHUFFLE[:40]].astype(float)
        found = LeastSquares(steps="none").fit(x, y)
        np.testing.assert_allclose(found.map_, np.linalg.solve(x.T @ x, x.T @ y), atol=1e-6)
        np.testing.assert_allclose(LeastSquares(steps="none").fit(x[:5], y[:5]).map_, np.linalg.pinv(x[:5]) @ y[:5], atol=1e-6)


class TestRefined:
    @pytest.mark.parametrize("criterion", ["precision", "mean-csls", "mean-cosine"])
    def test_the_kept_map_is_that_of_the_best_criterion(self, criterion):
        found = fitted(RefinedProcrustes(criterion=criterion, validation=0.3, threshold=None))
        assert len(found.history_) == 6
        best = int(np.argmax(found.history_))
        shorter = fitted(RefinedProcrustes(criterion=criterion, validation=0.3, threshold=None, iterations=best))
        np.testing.assert_array_equal(found.map_, shorter.map_)
        assert found.history_.max() >= found.history_[0]

    def test_where_refining_hurts_the_first_map_stays(self):
        target = NOISY.copy()
        target[SHUFFLE[40:]] = RNG.normal(size=(360, 16))  # nothing beyond the pairs agrees
        found = fitted(RefinedProcrustes(criterion="precision", validation=0.3, threshold=None), target)
        assert found.history_[1:].max() <= found.history_[0]
        np.testing.assert_array_equal(found.map_, fitted(RefinedProcrustes(validation=0.3, iterations=0), target).map_)

    def test_it_finds_more_than_procrustes_from_few_pairs(self):
        few = {"count": 14}
        refined = fitted(RefinedProcrustes(criterion="mean-csls"), **few)
        assert precision(refined) > precision(fitted(Procrustes(), **few)) + 0.1

    def test_mean_csls_is_that_of_the_definition(self):
        found = fitted(RefinedProcrustes(criterion="mean-csls", iterations=0))
        scores = Retrieval(*found.in_one_space(SOURCE, NOISY)).search(None, 1).scores
        assert found.history_.tolist() == [pytest.approx(scores.mean(), abs=1e-6)]

    def test_held_out_words_are_not_learned_from(self):
        one, other = RefinedProcrustes(validation=0.5, iterations=0), RefinedProcrustes(validation=0.5, iterations=0)
        spaces = Spaces(SOURCE, NOISY, np.vstack([PAIRS[:40], [[0, 7]]]))
        trained, held = one._carved(spaces)
        assert not set(trained[:, 0]) & set(held[:, 0])
        assert len(trained) + len(held) == 41
        damaged = NOISY.copy()
        damaged[held[:, 1]] = 1.0
        np.testing.assert_array_equal(fitted(one, NOISY).set_params(steps="none").map_, fitted(other, NOISY).map_)
        left, right = (fitted(RefinedProcrustes(steps="unit", validation=0.5, iterations=0), t).map_ for t in (NOISY, damaged))
        np.testing.assert_array_equal(left, right)


def naive_loss(x, z, sources, targets, weights, k):
    """The formula, pair by pair."""
    total = 0.0
    for i in range(len(x)):
        mapped = x[i] @ weights
        near = sorted((float(mapped @ t) for t in targets), reverse=True)[:k]
        back = sorted((float(s @ weights @ z[i]) for s in sources), reverse=True)[:k]
        total += -2 * float(mapped @ z[i]) + sum(near) / k + sum(back) / k
    return total / len(x)


class TestRCSLS:
    SPACES = Spaces(clustered(50, 6), clustered(60, 6, seed=4), np.column_stack([np.r_[:30, :10], np.r_[30:60, :10]]))

    def test_the_loss_is_a_double_loop_and_the_gradient_its_differences(self):
        method, weights = RCSLS(k=3), np.random.default_rng(5).normal(size=(6, 6))
        x, z = self.SPACES.sides()
        given = (self.SPACES.source.astype(float), self.SPACES.target.astype(float))
        point = method.point(self.SPACES, weights)
        assert point.loss == pytest.approx(naive_loss(x, z, *given, weights, 3), abs=1e-6)
        for a, b in ((0, 0), (2, 5), (4, 1)):
            step = np.zeros((6, 6))
            step[a, b] = 1e-6
            change = naive_loss(x, z, *given, weights + step, 3) - naive_loss(x, z, *given, weights - step, 3)
            assert point.gradient[a, b] == pytest.approx(change / 2e-6, abs=1e-5)

    @pytest.mark.parametrize("spectral", [False, True])
    @pytest.mark.parametrize("lr", [1.0, 500.0])
    def test_the_loss_never_rises_and_the_kept_map_has_the_last_one(self, lr, spectral):
        method = RCSLS(k=3, lr=lr, niter=25, spectral=spectral)
        pairs = self.SPACES.pairs
        method.fit(
            self.SPACES.source[pairs[:, 0]],
            self.SPACES.target[pairs[:, 1]],
            source=self.SPACES.source,
            target=self.SPACES.target,
            pairs=pairs,
        )
        history = method.history_
        assert len(history) > 2
        assert (np.diff(history) <= 0).all()
        assert history[-1] < history[0]
        if spectral:
            assert np.linalg.svd(method.map_, compute_uv=False).max() <= 1 + 1e-9
        again = RCSLS(k=3, steps="none")
        unit = Spaces(unit_float32(self.SPACES.source), unit_float32(self.SPACES.target), pairs)
        assert again.point(unit, method.map_).loss == pytest.approx(history[-1], abs=1e-6)

    def test_without_an_iteration_it_is_procrustes(self):
        np.testing.assert_array_equal(fitted(RCSLS(niter=0)).map_, fitted(Procrustes(steps="unit")).map_)

    def test_batches_are_drawn_by_the_seed(self):
        maps = [fitted(RCSLS(batch=10, niter=3, seed=seed)).map_ for seed in (0, 0, 1)]
        np.testing.assert_array_equal(maps[0], maps[1])
        assert np.abs(maps[0] - maps[2]).max() > 1e-6

    def test_neighbours_beyond_maxneg_do_not_count(self):
        far = SOURCE.copy()
        far[300:] *= -1
        left, right = (fitted(RCSLS(maxneg=300, steps="unit"), source=rows).map_ for rows in (SOURCE, far))
        np.testing.assert_array_equal(left, right)


class TestVecMap:
    def test_without_whitening_and_weights_it_scores_as_procrustes(self):
        plain, turned = fitted(VecMap(whiten="none", reweight=0)), fitted(Procrustes())
        scores = [m.transform(SOURCE) @ m.transform_target(NOISY).T for m in (plain, turned)]
        np.testing.assert_allclose(*scores, atol=1e-5)

    def test_each_step_is_what_it_says(self):
        x, z = (rows.astype(float) for rows in (SOURCE, NOISY[SHUFFLE]))
        white = VecMap(steps="none", whiten="whiten", reweight=0).fit(x, z)
        a, b = white.transform(x), white.transform_target(z)
        np.testing.assert_allclose(a.T @ a, np.eye(16), atol=1e-8)
        strength = np.diag(a.T @ b)
        np.testing.assert_allclose(a.T @ b, np.diag(strength), atol=1e-8)  # canonical correlations
        assert (np.diff(strength) <= 1e-12).all()
        weighted = VecMap(steps="none", whiten="whiten", reweight=0.5).fit(x, z)
        np.testing.assert_allclose(weighted.transform(x), a * np.sqrt(strength), atol=1e-8)
        whole = VecMap(steps="none", reweight=0).fit(x, z).transform(x)
        np.testing.assert_allclose(whole @ whole.T, x @ x.T, atol=1e-5)  # the whitening is taken back
        np.testing.assert_allclose(VecMap(steps="none", reweight=0, dimensions=5).fit(x, z).transform(x), whole[:, :5], atol=1e-9)

    def test_nobody_tells_it_the_pairs(self):
        source = clustered(600, 16, seed=7)
        place = np.random.default_rng(8).permutation(600)
        target = np.empty_like(source)
        target[place] = source @ ROTATION + 0.05 * np.random.default_rng(9).normal(size=source.shape)
        start = spectral_start(source, target, 10)
        assert (place[start[:, 0]] == start[:, 1]).mean() > 0.05
        found = VecMap(mode="unsupervised", stochastic=(0.3, 2.0, 5)).fit(source=source, target=target)
        space = Retrieval(*found.in_one_space(source, target))
        assert (space.search(None, 1).ids[:, 0] == place).mean() > 0.95
        assert len(found.history_) > 10  # chance fades in two steps of five iterations

    def test_chance_leaves_each_rank_its_share(self):
        """Partners at rank r are chosen with probability keep (1 - keep)^r, also beyond those looked up for all."""
        space = Retrieval(unit_float32(clustered(400, 16)), unit_float32(clustered(300, 16, seed=4)))
        order = space.search(None, 300).ids
        generator, ranks = np.random.default_rng(0), []
        for _ in range(20):
            pairs = induce(space, 0.3, generator)[0][:400]
            ranks += (order[pairs[:, 0]] == pairs[:, 1:]).argmax(1).tolist()
        shares = np.bincount(ranks, minlength=40)[:40] / len(ranks)
        np.testing.assert_allclose(shares, 0.3 * 0.7 ** np.arange(40), atol=0.02)
        assert max(ranks) > np.ceil(np.log(0.02) / np.log(0.7))

    def test_the_objective_is_that_of_the_best_scores(self):
        left, right = unit_float32(clustered(60, 16)), unit_float32(clustered(70, 16, seed=4))
        cosines = left.astype(float) @ right.astype(float).T
        own, other = np.sort(cosines, 1)[:, -10:].mean(1), np.sort(cosines, 0)[-10:].mean(0)
        wanted = ((cosines - other / 2).max(1).mean() + (cosines - own[:, None] / 2).max(0).mean()) / 2
        assert induce(Retrieval(left, right), 1.0, RNG)[1] == pytest.approx(wanted, abs=1e-6)


ONE_SIGN = {"check_estimators_dtypes": "its target is one column of one sign: after unit-center-unit no row has a direction"}
WITHOUT_STEPS = [cls(steps="none") for cls in (LeastSquares, RefinedProcrustes, RCSLS, VecMap)]


@parametrize_with_checks([*WITHOUT_STEPS, VecMap()], expected_failed_checks=lambda one: ONE_SIGN if one.steps != "none" else {})
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_what_cannot_be_learned_from_is_one_line():
    x, y = SOURCE[:40], NOISY[SHUFFLE[:40]]
    whole = {"source": SOURCE, "target": NOISY, "pairs": PAIRS[:40]}
    for method, given, says in (
        (RCSLS(), {**whole, "pairs": None}, "source, target and pairs belong together"),
        (RCSLS(), {**whole, "pairs": PAIRS[:39]}, "do not fit each other"),
        (RCSLS(), {**whole, "pairs": PAIRS[:40] + 390}, "rows that the tables do not have"),
        (RCSLS(), {**whole, "target": NOISY[:, :3]}, "do not fit each other"),
        (VecMap(), {**whole, "source": np.where(SOURCE > 1, np.nan, SOURCE)}, "NaN"),
        (RCSLS(lr=-1.0), whole, "lr=-1.0 is not accepted"),
        (VecMap(mode="semi-supervised", vocabulary_cutoff=1), {**whole, "pairs": PAIRS[1:41]}, "raise vocabulary_cutoff"),
    ):
        with pytest.raises(ParameterError, match=says) as caught:
            method.fit(x, y, **given)
        assert "\n" not in str(caught.value)
    with pytest.raises(ParameterError, match="requires y to be passed"):
        VecMap().fit(source=SOURCE, target=NOISY)
    with pytest.raises(ParameterError, match="rows of 3 numbers"):
        fitted(Procrustes()).transform_target(NOISY[:, :3])
    assert resolve("aligner", "vecmap", {"stochastic": [0.2, 3, 5]}).stochastic == (0.2, 3.0, 5)
