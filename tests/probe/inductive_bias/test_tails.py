"""Tails in closed form: one weight, equal weights, none; scipy where it is finite, 50 digits where it is not; drawn errors."""

import mpmath
import numpy as np
import pytest
from scipy.stats import chi2, gamma, ncx2, norm

from regraft.errors import ParameterError
from regraft.probe.probes.inductive_bias.fit import Fitted, fit_as_released, fit_errors, log_density, moments, sankaran
from regraft.probe.probes.inductive_bias.law import ErrorLaw

M = 2000


def equal(shift=0.0, copies=1, m=M):
    return ErrorLaw(np.full(m, 1 / (m * copies)), np.full(m, shift / m), copies)


def random_law(t=40, k=3, seed=0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(t, t)) * (np.arange(1, t + 1) ** -0.7)
    return root @ root.T / t, rng.normal(size=(t, k)) * 0.5


@pytest.mark.parametrize(
    ("weight", "b", "epsilon"), [(1, 0, 0.3), (1, 0, 1e-4), (2, 3, 0.1), (2, 3, 50), (0.5, 9, 2), (1, 0, 1.0), (1, 0, 30)]
)
def test_one_point_and_one_output_is_a_difference_of_normal_shares(weight, b, epsilon):
    law = ErrorLaw(np.array([float(weight)]), np.array([float(b * b)]), 1)
    ends = [(sign * np.sqrt(epsilon) - b) / np.sqrt(weight) for sign in (1, -1)]
    expected = -np.log1p(-norm.sf(ends[0]) - norm.cdf(ends[1])) if epsilon > 20 else -np.log(norm.cdf(ends[0]) - norm.cdf(ends[1]))
    assert law.nats(epsilon) == pytest.approx(expected, rel=1e-8)
    if expected > 0.1:
        assert law.nats(epsilon, "saddlepoint") == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("epsilon", [0.5, 0.9, 0.99, 1.0, 1.0001, 1.05])
@pytest.mark.parametrize("copies", [1, 4])
def test_equal_weights_are_a_chi_square(epsilon, copies):
    law = equal(copies=copies, m=M // copies)
    expected = -chi2.logcdf(epsilon * M, M)
    assert law.nats(epsilon) == pytest.approx(expected, rel=1e-10)
    assert law.nats(epsilon, "saddlepoint") == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("epsilon", [0.02, 0.1])
def test_beyond_scipy_it_agrees_with_fifty_digits(epsilon):
    assert np.isinf(chi2.logcdf(epsilon * M, M))
    with mpmath.workdps(50):
        expected = -float(mpmath.log(mpmath.gammainc(M / 2, 0, mpmath.mpf(epsilon) * M / 2, regularized=True)))
    assert equal().nats(epsilon) == pytest.approx(expected, rel=1e-10)
    assert equal().nats(epsilon, "saddlepoint") == pytest.approx(expected, rel=1e-6)


def test_equal_weights_with_a_shift_are_a_non_central_chi_square():
    law, rng = equal(shift=0.4), np.random.default_rng(0)
    uneven = rng.exponential(size=M)
    other = ErrorLaw(law.weights, 0.4 * uneven / uneven.sum(), 1)  # only the sum of shifts counts
    for epsilon in (1.1, 1.3, 1.4):
        expected = -ncx2.logcdf(epsilon * M, M, 0.4 * M)
        for one in (law, other):
            assert one.nats(epsilon) == pytest.approx(expected, rel=1e-7)
            assert one.nats(epsilon, "saddlepoint") == pytest.approx(expected, rel=1e-4)


def test_where_nothing_varies_the_bias_is_a_step():
    deviation = np.array([[0.3], [0.1], [0.2], [0.0]])
    error = float(np.square(deviation).mean())
    law = ErrorLaw.of(np.zeros((4, 4)), deviation, 1.0)
    assert (law.nats(error * 1.0001), law.nats(error * 0.9999), law.mean) == (0.0, np.inf, pytest.approx(error))
    half = ErrorLaw.of(np.diag([0.0, 0.0, 0.1, 0.1]), deviation, 1.0)  # two points vary: what the others miss is never undone
    assert half.floor == pytest.approx((0.09 + 0.01) / 4)
    assert half.nats(half.floor * 0.999) == half.nats(half.floor) == np.inf
    assert 1 < half.nats(half.floor * 1.1) < half.nats(half.floor * 1.01) < np.inf


def test_it_falls_from_infinity_to_nothing_without_a_seam():
    law = ErrorLaw.of(*random_law())
    grid = np.geomspace(law.mean / 1e4, law.mean * 20, 120)
    for how in ("exact", "saddlepoint"):
        found = np.array([law.nats(one, how) for one in grid])
        assert (np.diff(found) <= 1e-12).all()
        assert found[0] > 100
        assert found[-1] < 1e-12
    around = law.mean * (1 + np.linspace(-1e-3, 1e-3, 41))
    for how in ("exact", "saddlepoint"):
        steps = np.diff([law.nats(one, how) for one in around])
        assert np.abs(np.diff(steps)).max() < 5e-3 * abs(steps.mean())  # r* goes over to its limit near 0


def test_it_is_the_share_of_drawn_predictors():
    covariance, deviation = random_law()
    law, rng = ErrorLaw.of(covariance, deviation), np.random.default_rng(1)
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(values.clip(0))
    drawn = np.array([np.square(deviation + root @ rng.normal(size=deviation.shape)).mean() for _ in range(20_000)])
    shortcut = law.draw(20_000, rng)
    assert drawn.mean() == pytest.approx(law.mean, rel=0.02)
    assert (shortcut.mean(), shortcut.std()) == pytest.approx((drawn.mean(), drawn.std()), rel=0.03)
    for share in (0.01, 0.05, 0.5, 0.95):
        for errors in (drawn, shortcut):
            assert np.exp(-law.nats(np.quantile(errors, share))) == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 20_000))


def test_turning_outputs_and_points_changes_nothing_and_rounding_is_clipped():
    covariance, deviation = random_law()
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    basis = np.linalg.qr(np.random.default_rng(3).normal(size=(40, 40)))[0]
    plain = ErrorLaw.of(covariance, deviation).nats(0.1)
    assert ErrorLaw.of(covariance, deviation @ turn).nats(0.1) == pytest.approx(plain, rel=1e-9)
    assert ErrorLaw.of(basis @ covariance @ basis.T, basis @ deviation).nats(0.1) == pytest.approx(plain, rel=1e-6)
    crooked = np.diag([1.0, 1.0, -1e-15]) + np.array([[0, 1e-9, 0], [0, 0, 0], [0, 0, 0]])
    assert np.isfinite(ErrorLaw.of(crooked, np.zeros((3, 1))).nats(0.1))


def test_independent_outputs_double_the_exponent():
    """With the error averaged over both, ln P doubles to first order: what is left falls beside it."""
    covariance, deviation = random_law(t=300, k=1, seed=4)
    one, two = ErrorLaw.of(covariance, deviation), ErrorLaw.of(covariance, np.repeat(deviation, 2, 1))
    ratios = [two.nats(share * one.mean) / one.nats(share * one.mean) for share in (0.7, 0.4, 0.2)]
    assert all(abs(ratio - 2) < 0.1 for ratio in ratios)
    assert abs(ratios[-1] - 2) < 0.02 < abs(ratios[0] - 2) + 0.02


# The paper's tail


def test_a_fit_finds_the_law_that_errors_were_drawn_from():
    rng = np.random.default_rng(0)
    errors = 0.02 * ncx2.rvs(6, 40, size=3000, random_state=rng)
    found = fit_errors(errors)
    assert found.scale * (found.df + found.nc) == pytest.approx(errors.mean(), rel=0.01)
    assert 2 * found.scale**2 * (found.df + 2 * found.nc) == pytest.approx(errors.var(), rel=0.1)
    assert found.nats(0.3) == pytest.approx(-ncx2.logcdf(0.3 / 0.02, 6, 40), rel=0.15)
    central = fit_errors(gamma.rvs(30, scale=0.01, size=3000, random_state=rng))
    assert central.nats(0.15) == pytest.approx(-gamma.logcdf(0.15, 30, scale=0.01), rel=0.1)


@pytest.mark.parametrize(("df", "nc"), [(3.0, 2.0), (61.9, 5.0), (62.1, 5.0), (300.0, 400.0), (90.0, 0.01)])
def test_the_density_is_scipys(df, nc):
    x = np.linspace(0.3, 2, 30) * (df + nc)
    np.testing.assert_allclose(log_density(x, df, nc), ncx2.logpdf(x, df, nc), rtol=1e-6, atol=1e-6)
    far = log_density(np.array([8000.0]), 8000.0, 1e-3)  # scipy's is -inf there
    assert far == pytest.approx(chi2.logpdf(8000.0, 8000.0), abs=1e-3)


def test_moments_are_those_of_the_errors():
    errors = 0.02 * ncx2.rvs(30, 40, size=100_000, random_state=1)
    scale, df, nc = moments(errors)
    assert (scale * (df + nc), 2 * scale**2 * (df + 2 * nc)) == pytest.approx((errors.mean(), errors.var()))


@pytest.mark.parametrize(("df", "nc"), [(10.0, 5.0), (200.0, 100.0), (50.0, 0.0)])
def test_sankaran_is_near_the_law_it_stands_for(df, nc):
    for share in (1e-3, 0.05, 0.5, 0.9):
        x = ncx2.ppf(share, df, nc) if nc else chi2.ppf(share, df)
        assert norm.cdf(sankaran(x, df, nc)) == pytest.approx(share, rel=0.03 if share > 0.01 else 0.35)


def test_where_the_law_underflows_the_normal_takes_over():
    fitted = Fitted(2000.0, 200.0, 1 / 2000)
    assert fitted.nats(0.9) == pytest.approx(-ncx2.logcdf(1800, 2000, 200), rel=1e-9)
    far = fitted.nats(0.05)
    z = sankaran(100, 2000, 200)
    assert z < 0
    assert far == pytest.approx(-norm.logcdf(z))
    assert fitted.nats(0.05, released=True) == pytest.approx(z * z / 2)
    assert far == pytest.approx(fitted.nats(0.05, released=True), rel=0.01)


def test_the_fit_is_as_likely_as_plain_scipys():
    law = ErrorLaw.of(*random_law(t=60, k=5, seed=0))
    errors = law.draw(500, np.random.default_rng(0))
    ours, plain = fit_errors(errors), fit_as_released(errors)

    def likelihood(law):
        x = errors / law.scale
        return (ncx2.logpdf(x, law.df, law.nc) if law.nc else chi2.logpdf(x, law.df)).mean() - np.log(law.scale)

    assert likelihood(ours) >= likelihood(plain) - 1e-4


@pytest.mark.parametrize("errors", [np.full(50, 0.3), np.array([0.1, 0.2]), np.array([0.1, np.nan, 0.2, 0.3])])
def test_errors_that_no_law_fits_are_refused(errors):
    with pytest.raises(ParameterError, match="do not vary"):
        fit_errors(errors)
