"""What each measure must be on rows whose spectrum is known, and on rows that have none."""

import math

import numpy as np
import pytest
import torch

from regraft.errors import InputError, ParameterError
from regraft.method import members, resolve
from regraft.probe.spectrum.metric import RowProbe
from regraft.probe.spectrum.spectrum import Spectrum

torch.manual_seed(0)
N, K = 400, 12
ORTHONORMAL = torch.linalg.qr(torch.randn(N, K, dtype=torch.float64))[0]
CENTRED = torch.linalg.qr(torch.randn(N, K, dtype=torch.float64))[0]
CENTRED = torch.linalg.qr(CENTRED - CENTRED.mean(0))[0]
ROTATION = torch.linalg.qr(torch.randn(K, K, dtype=torch.float64))[0]
GAUSS = torch.randn(N, K, dtype=torch.float64) * torch.linspace(1, 3, K) + 0.5
WITHOUT_PAIRS = sorted(cls.name for cls in members("probe") if issubclass(cls, RowProbe) and not cls.needs)


def value(name, rows, **settings):
    """By `measure` and by the metric, fed in three uneven batches: they agree."""
    probe = resolve("probe", name, settings)
    measured = probe.measure(rows, draws=0).value
    for part in (rows[:7], rows[7:90], rows[90:]):
        if len(part):
            probe.update(part)
    np.testing.assert_allclose(float(probe.compute()), measured, rtol=1e-6, atol=1e-9)
    return measured


def test_every_measure_of_the_card_is_there():
    assert {cls.name for cls in members("probe")} >= {
        "rankme", "alpha-req", "nesum", "stable-rank", "self-clustering", "coherence", "pseudo-condition-number", "participation-ratio",
        "isoscore", "average-cosine", "partition-function", "uniformity", "alignment", "lidar",
    }  # fmt: skip


def test_orthonormal_columns_use_every_dimension():
    assert value("rankme", ORTHONORMAL) == pytest.approx(K, rel=1e-4)
    assert value("rankme", ORTHONORMAL, epsilon=0.0) == pytest.approx(K, rel=1e-9)
    assert value("stable-rank", ORTHONORMAL) == pytest.approx(K)
    assert value("pseudo-condition-number", ORTHONORMAL) == pytest.approx(1)
    assert value("nesum", CENTRED) == pytest.approx(K)
    assert value("participation-ratio", CENTRED) == pytest.approx(K)
    assert value("isoscore", CENTRED) == pytest.approx(1)
    assert value("alpha-req", CENTRED) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("r", [2, 5])
def test_equal_singular_values_count_themselves(r):
    rows = CENTRED[:, :r] @ ROTATION[:r]
    for name in ("rankme", "stable-rank", "nesum", "participation-ratio"):
        assert value(name, rows) == pytest.approx(r, rel=1e-4)
    assert value("pseudo-condition-number", rows) == 0
    assert value("isoscore", rows) * (K - 1) + 1 == pytest.approx(r)  # the share of dimensions in use


def test_one_direction_is_rank_one():
    rows = torch.outer(torch.randn(N, dtype=torch.float64), ROTATION[0])
    for name in ("rankme", "stable-rank", "nesum", "participation-ratio"):
        assert value(name, rows) == pytest.approx(1, rel=1e-4)
    assert value("isoscore", rows) == pytest.approx(0, abs=1e-9)
    assert value("self-clustering", rows) == pytest.approx(1, abs=1e-9)
    assert abs(value("average-cosine", rows)) < 0.1  # either way along it
    assert value("average-cosine", ROTATION[:1].repeat(N, 1) * torch.rand(N, 1, dtype=torch.float64)) == pytest.approx(1)


@pytest.mark.parametrize("name", ["rankme", "stable-rank", "pseudo-condition-number", "self-clustering", "coherence"])
def test_rotations_and_scale_mean_nothing_to(name):
    before = value(name, GAUSS)
    assert value(name, GAUSS @ ROTATION) == pytest.approx(before, rel=1e-8, abs=1e-12)
    assert value(name, 1000 * GAUSS) == pytest.approx(before, rel=1e-8)
    if name in ("rankme", "stable-rank", "pseudo-condition-number"):
        mixed = torch.linalg.qr(torch.randn(N, N, dtype=torch.float64))[0]
        assert value(name, mixed @ GAUSS) == pytest.approx(before, rel=1e-8)
    if name == "coherence":
        return  # left singular vectors span the same space whatever is done to columns
    stretched = GAUSS * torch.tensor([1.0] * (K - 1) + [30.0])
    assert abs(value(name, stretched) - before) > 0.02 * abs(before)


def test_rankme_is_not_centred_unless_asked():
    shifted = GAUSS + 20
    assert value("rankme", shifted) < 0.5 * value("rankme", GAUSS - GAUSS.mean(0))
    assert value("rankme", shifted, center=True) == pytest.approx(value("rankme", GAUSS, center=True), rel=1e-8)
    assert value("rankme", shifted, center=True) == pytest.approx(value("rankme", GAUSS - GAUSS.mean(0)), rel=1e-8)


def test_epsilon_stands_outside_the_division():
    epsilon = 0.01
    p = torch.linalg.svdvals(GAUSS)
    p = p / p.sum() + epsilon
    assert value("rankme", GAUSS, epsilon=epsilon) == pytest.approx(float(torch.exp(-(p * p.log()).sum())), rel=1e-12)


def test_chance_directions_do_not_cluster():
    assert abs(value("self-clustering", torch.randn(4000, K))) < 3 / math.sqrt(4000)
    z = torch.nn.functional.normalize(GAUSS, dim=1)
    expected = N + N * (N - 1) / K
    assert value("self-clustering", GAUSS) == pytest.approx(float(((z @ z.T).square().sum() - expected) / (N**2 - expected)), rel=1e-9)
    assert value("average-cosine", GAUSS) == pytest.approx(float(((z @ z.T).sum() - N) / (N * (N - 1))), rel=1e-9)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_found(alpha):
    k = 60
    rows = torch.linalg.qr(torch.randn(500, k, dtype=torch.float64))[0]
    rows = torch.linalg.qr(rows - rows.mean(0))[0] * torch.arange(1, k + 1, dtype=torch.float64) ** (-alpha / 2)
    assert value("alpha-req", rows) == pytest.approx(alpha, abs=1e-8)
    assert value("alpha-req", rows, first=1, last=60) == pytest.approx(alpha, abs=1e-8)
    fit = resolve("probe", "alpha-req").fit(Spectrum.of(rows))
    assert (fit.first, fit.last, fit.r2) == (5, 50, pytest.approx(1))
    assert "eigenvalues 5 to 50, R² 1.000" in resolve("probe", "alpha-req").measure(rows, draws=0).notes


def test_alpha_weighs_each_index_by_its_inverse():
    found = resolve("probe", "alpha-req", {"first": 2, "last": 9}).fit(Spectrum.of(GAUSS))
    j = np.arange(2, 10)
    y = np.log(np.linalg.eigvalsh(np.cov(GAUSS.numpy().T))[::-1][1:9])
    assert found.alpha == pytest.approx(-np.polyfit(np.log(j), y, 1, w=np.sqrt(1 / j))[0], rel=1e-9)


def test_coherence_of_known_rows():
    spread = torch.cat([torch.eye(K, dtype=torch.float64)] * 5)
    assert value("coherence", spread) == pytest.approx(1)
    alone = torch.zeros(N, K, dtype=torch.float64)
    alone[3, 0], alone[:, 1] = 5.0, 1.0
    assert value("coherence", alone) == pytest.approx(N / 2 * (1 + 1 / N), rel=0.01)  # rank 2; row 3 alone holds a direction
    u = torch.linalg.svd(GAUSS, full_matrices=False)[0]
    assert value("coherence", GAUSS) == pytest.approx(float(u.square().sum(1).max() * N / K), rel=1e-9)


def test_partition_function_of_known_rows():
    antipodal = torch.cat([torch.eye(K, dtype=torch.float64), -torch.eye(K, dtype=torch.float64)])
    assert value("partition-function", torch.linalg.qr(antipodal)[0] * 0.0 + antipodal) <= 1
    c = torch.linalg.eigh(GAUSS.T @ GAUSS)[1]
    f = torch.cat([torch.exp(GAUSS @ c).sum(0), torch.exp(-GAUSS @ c).sum(0)])
    assert value("partition-function", GAUSS) == pytest.approx(float(f.min() / f.max()), rel=1e-6)
    assert math.isfinite(value("partition-function", 1000 * GAUSS))  # in logarithms: nothing overflows


def test_uniformity_and_alignment_of_known_rows():
    assert value("uniformity", torch.tensor([[1.0, 0.0], [-3.0, 0.0]])) == pytest.approx(-8)
    assert value("uniformity", torch.ones(30, 3)) == pytest.approx(0)
    unit = torch.nn.functional.normalize(GAUSS, dim=1)
    assert value("uniformity", GAUSS) == pytest.approx(float(torch.pdist(unit).pow(2).mul(-2).exp().mean().log()), rel=1e-9)
    align = resolve("probe", "alignment")
    assert align.measure(GAUSS, GAUSS).value == 0
    other = GAUSS + 0.3 * torch.randn_like(GAUSS)
    for alpha in (1.0, 2.0):
        again = (unit - torch.nn.functional.normalize(other, dim=1)).norm(dim=1).pow(alpha).mean()
        found = resolve("probe", "alignment", {"alpha": alpha}).measure(GAUSS, other)
        assert found.value == pytest.approx(float(again))
        assert found.interval[0] < found.value < found.interval[1]
    with pytest.raises(ParameterError, match="give rows in pairs"):
        align.measure(GAUSS, GAUSS[:5])
    with pytest.raises(ParameterError, match="give their partners"):
        align.measure(GAUSS)


def test_isoscore_is_the_authors():
    """The formulas of the package IsoScore 1.0, points as columns, written again."""
    points = GAUSS.numpy().T
    n = len(points)
    axes = np.linalg.eigh(np.cov(points))[1]
    diagonal = np.diag(np.cov(axes.T @ points))
    normal = diagonal * np.sqrt(n) / np.linalg.norm(diagonal)
    defect = np.linalg.norm(normal - np.ones(n)) / np.sqrt(2 * (n - np.sqrt(n)))
    score = ((n - defect**2 * (n - np.sqrt(n))) ** 2 - n) / (n * (n - 1))
    assert value("isoscore", GAUSS) == pytest.approx(score, rel=1e-9)


def test_isoscore_star_lies_between_the_rows_and_its_target():
    plain = value("isoscore", GAUSS)
    assert value("isoscore", GAUSS, zeta=1.0) == pytest.approx(1)
    assert plain < value("isoscore", GAUSS, zeta=0.3) < 1
    own = resolve("probe", "isoscore", {"zeta": 0.3}).shrink_towards(torch.cov(GAUSS.T))
    assert own.measure(GAUSS, draws=0).value == pytest.approx(plain, rel=1e-9)
    with pytest.raises(ParameterError, match="give a square one"):
        own.shrink_towards(torch.ones(3, 4))


def views(n, q, r, d, noise=0.1):
    """n samples that differ in r dimensions, whose views differ in the other d - r."""
    samples = torch.zeros(n, 1, d, dtype=torch.float64)
    samples[:, 0, :r] = torch.randn(n, r, dtype=torch.float64)
    spread = torch.zeros(n, q, d, dtype=torch.float64)
    spread[..., r:] = noise * torch.randn(n, q, d - r, dtype=torch.float64)
    return samples + spread


def test_lidar_counts_what_tells_samples_apart():
    rows = views(600, 8, 4, 10)
    found = resolve("probe", "lidar")
    assert float(found(rows)) == pytest.approx(4, rel=0.03)
    ids = torch.arange(600).repeat_interleave(8)
    order = torch.randperm(len(ids))
    found.reset()
    for part in torch.split(order, 1111):  # views of one sample in different batches
        found.update(rows.flatten(0, 1)[part], ids[part])
    assert float(found.compute()) == pytest.approx(found.measure(rows).value, rel=1e-9)
    assert found.measure(rows).interval[0] < 4 < found.measure(rows).interval[1] + 0.1


def test_lidar_is_its_definition():
    rows, n, q, d, delta = views(30, 4, 3, 5) + 2, 30, 4, 5, 0.01
    mu = rows.mean(1)
    between = torch.cov(mu.T)
    apart = (rows - mu[:, None]).flatten(0, 1)
    within = apart.T @ apart / (n * (q - 1)) + delta * torch.eye(d)
    value, vectors = torch.linalg.eigh(within)
    root = vectors @ torch.diag(value**-0.5) @ vectors.T
    told = torch.linalg.eigvalsh(root @ between @ root)
    p = told / told.sum() + 1e-8
    expected = float(torch.exp(-(p.clamp(min=1e-300) * p.clamp(min=1e-300).log()).sum()))
    assert resolve("probe", "lidar", {"delta": delta}).measure(rows).value == pytest.approx(expected, rel=1e-6)
    other = resolve("probe", "lidar", {"delta": delta, "epsilon_added": "before"}).measure(rows).value
    assert other == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("rows", "ids", "says"),
    [
        (torch.ones(4, 3), None, "say which rows are views of one sample"),
        (torch.ones(4, 3), [0, 0, 1], "give 4 integers"),
        (torch.ones(4, 3), [0.0, 0, 1, 1], "give 4 integers"),
        (torch.ones(4, 3), [-1, 0, 1, 1], "none negative"),
        (torch.randn(4, 3), [0, 1, 2, 3], "4 samples with 0 views beyond the first"),
        (torch.randn(4, 3), [0, 0, 0, 0], "1 samples with 3 views beyond the first"),
    ],
)
def test_lidar_refuses_rows_that_it_cannot_group(rows, ids, says):
    with pytest.raises(ParameterError, match=says):
        resolve("probe", "lidar").measure(rows, ids)


@pytest.mark.parametrize("name", WITHOUT_PAIRS)
def test_rows_that_have_no_spectrum(name):
    probe = resolve("probe", name)
    zero = probe.measure(torch.zeros(50, 6)).value
    assert zero != zero or name in ("self-clustering", "partition-function")  # NaN: these two are defined on rows of zeros
    alike = probe.measure(torch.full((50, 6), 0.3)).value
    assert {"rankme": 1, "stable-rank": 1, "average-cosine": 1, "self-clustering": 1, "uniformity": 0}.get(name, alike) == pytest.approx(
        alike, rel=1e-4, abs=1e-9, nan_ok=True
    )
    if name in ("nesum", "participation-ratio", "isoscore", "alpha-req"):
        assert math.isnan(alike)  # no variance
    broken = torch.randn(50, 6)
    broken[17, 2] = math.nan
    with pytest.raises(InputError, match="row 17 has NaN or infinity"):
        probe.measure(broken)
    for bad in (torch.zeros(0, 6), torch.zeros(3, 2, 2), torch.zeros(4), "text", torch.zeros(3, 3, dtype=torch.complex64)):
        with pytest.raises(ParameterError):
            probe.measure(bad)
    with pytest.raises(ParameterError, match="no rows yet"):
        resolve("probe", name).compute()


def test_few_rows_are_said_and_take_the_exact_way():
    few = torch.randn(8, 20, dtype=torch.float64)
    found = resolve("probe", "rankme").measure(few)
    p = torch.linalg.svdvals(few)
    p = p / p.sum() + 1e-7
    assert found.value == pytest.approx(float(torch.exp(-(p * p.log()).sum())), rel=1e-12)
    assert any("of the 8 dimensions that so few rows can have" in note for note in found.notes)
    assert any("only 8 rows for 20 columns" in note for note in found.notes)
    assert any("fewer than five a column" in note for note in resolve("probe", "nesum").measure(torch.randn(60, 20)).notes)
    assert not any("rows for" in note for note in resolve("probe", "nesum").measure(torch.randn(100, 20)).notes)


def test_singular_values_too_small_for_a_gram_matrix_need_exactness():
    rows = ORTHONORMAL * torch.tensor([1.0] * (K - 1) + [1e-9])
    assert value("pseudo-condition-number", rows) == 0
    assert any("exact=true" in note for note in resolve("probe", "pseudo-condition-number").measure(rows).notes)
    assert value("pseudo-condition-number", rows, exact=True) == pytest.approx(1e-9, rel=1e-4)
