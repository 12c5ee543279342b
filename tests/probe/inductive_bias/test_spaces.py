"""Hypothesis spaces: posteriors beside scikit-learn, infinite networks beside wide ones, trained networks, intervals, the method."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, Matern
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import laplacian_kernel

from regraft.comparison import Kept
from regraft.errors import ParameterError, RowsError
from regraft.method import resolve
from regraft.probe.probes.inductive_bias import InductiveBias
from regraft.probe.probes.inductive_bias.kernels import kernel_of, median_distance
from regraft.probe.probes.inductive_bias.networks import Training, sample_networks, train
from regraft.probe.probes.inductive_bias.posterior import condition
from regraft.probe.probes.inductive_bias.specs import Spec, parse_model, parse_space
from regraft.probe.probes.inductive_bias.task import Task, standardized


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    return X[order] / 16, y[order]


def task_of(digits, n=100, t=60):
    X, y = digits
    return Task.of(X[:n], y[:n], X[1200 : 1200 + t], y[1200 : 1200 + t])


@pytest.mark.parametrize(("space", "reference"), [("rbf", RBF(1.5)), ("matern32", Matern(1.5, nu=1.5)), ("matern52", Matern(1.5, nu=2.5))])
def test_mean_and_covariance_are_scikit_learns(digits, space, reference):
    task = task_of(digits)
    found = condition(kernel_of(parse_space(space), task.X_train, 1.5), task)
    gp = GaussianProcessRegressor(reference, alpha=1e-8, optimizer=None).fit(task.X_train, task.Y_train[:, 3])
    mean, covariance = gp.predict(task.X_test, return_cov=True)
    np.testing.assert_allclose(found.mean[:, 3], mean, atol=1e-6)
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-6)
    np.testing.assert_allclose(kernel_of(parse_space("laplace"), task.X_train, 3.0)(task.X_test, task.X_train),
                               laplacian_kernel(task.X_test, task.X_train, 1 / 3), atol=1e-12)  # fmt: skip


def test_conjugate_gradients_find_what_cholesky_finds(digits):
    task = task_of(digits)
    for space in ("rbf", "nngp:1"):
        kernel = kernel_of(parse_space(space), task.X_train, 1.0)
        whole, blocks = condition(kernel, task), condition(kernel, task, most_cholesky=10)
        np.testing.assert_allclose(blocks.mean, whole.mean, atol=1e-5)
        np.testing.assert_allclose(blocks.covariance, whole.covariance, atol=1e-5)
        assert blocks.law.nats(0.05) == pytest.approx(whole.law.nats(0.05), rel=1e-3)


def test_infinite_networks_are_the_limit_of_wide_ones():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5, 9))
    for space, wide in (("nngp:2", mlp_outputs), ("cnngp:2", cnn_outputs)):
        kernel = kernel_of(parse_space(space), X, 1.0)
        outputs = wide(torch.from_numpy(X).float())  # (networks, 5)
        sampled = (outputs.T @ outputs / len(outputs)).numpy()
        np.testing.assert_allclose(kernel(X, X), sampled, atol=0.12 * np.diag(sampled).max())
        np.testing.assert_allclose(kernel.diagonal(X), np.diag(kernel(X, X)), rtol=1e-9)
        assert np.linalg.eigvalsh(kernel(X, X))[0] > 0


def he(*shape, fan):
    return torch.randn(*shape, generator=GENERATOR) * (2 / fan) ** 0.5


GENERATOR = torch.Generator().manual_seed(0)


def mlp_outputs(X, networks=1000, width=96):
    h = torch.relu(X @ he(networks, 9, width, fan=9))
    h = torch.relu(h @ he(networks, width, width, fan=width))
    return (h @ he(networks, width, 1, fan=width)).squeeze(-1)


def cnn_outputs(X, networks=500, width=48):
    outputs = []
    for _ in range(networks):
        h = torch.relu(torch.nn.functional.conv2d(X.view(-1, 1, 3, 3), he(width, 1, 3, 3, fan=9), padding=1))
        h = torch.relu(torch.nn.functional.conv2d(h, he(width, width, 3, 3, fan=9 * width), padding=1))
        outputs.append(h.flatten(1) @ he(9 * width, fan=9 * width))
    return torch.stack(outputs)


def test_the_table_of_digits(digits):
    """Falls with rows, with epsilon, with a better-suited kernel: in the bounds of another split of the same data."""
    found = {
        (sigma, n): [InductiveBias(sigma=sigma).open(task_of(digits, n, 200)).nats(one) for one in (0.02, 0.01)]
        for sigma in (1.0, 4.0)
        for n in (100, 400, 1200)
    }
    assert found[1.0, 400][0] == pytest.approx(2332, rel=0.02)
    assert found[1.0, 1200][1] == pytest.approx(2704, rel=0.02)
    assert found[4.0, 100][0] == pytest.approx(205, rel=0.2)
    for (sigma, n), (loose, tight) in found.items():
        assert tight > loose
        assert loose < found[sigma, 100][0] or n == 100
        assert loose <= found[1.0, n][0]


def test_the_measurement_says_all_that_it_depends_on(digits):
    task = task_of(digits, 100, 60)
    X, y = digits
    method = resolve("probe", "inductive-bias", {"sigma": 2.0})
    bias = method.measure(X[:100], y[:100], X[1200:1260], y[1200:1260], epsilon=0.03)
    assert (bias.n, bias.t, bias.k, bias.sigma, bias.epsilon, bias.space) == (100, 60, 10, 2.0, 0.03, "rbf")
    assert bias.bits == pytest.approx(bias.nats / np.log(2))
    assert bias.interval[0] < bias.nats < bias.interval[1]
    assert not bias.in_range
    assert bias.least_error > 0.03
    posterior = condition(kernel_of(Spec("rbf"), task.X_train, 2.0), task)
    assert bias.predictor_error == pytest.approx(np.square(posterior.mean - task.Y_test).mean())
    figure = bias.measurement
    assert (figure.unit, figure.value) == ("bits", bias.bits)
    assert "epsilon 0.03 in rbf, sigma 2; n 100, t 60, k 10" in figure.notes[0]
    loose = method.measure(X[:100], y[:100], X[1200:1260], y[1200:1260], epsilon=bias.mean_error)
    assert loose.in_range
    assert loose.nats < 2


def test_a_fitted_models_error_is_epsilon(digits):
    X, y = digits
    model = LogisticRegression(max_iter=500).fit(X[:100], y[:100].astype(str))
    bias = InductiveBias(draws=20).measure(X[:100], y[:100], X[1200:1260], y[1200:1260], model=model)
    expected = np.square(model.predict_proba(X[1200:1260]) - np.eye(10)[y[1200:1260]]).mean()
    assert bias.epsilon == pytest.approx(expected)
    plain = InductiveBias(draws=20).measure(X[:100], y[:100], X[1200:1260], y[1200:1260], epsilon=expected)
    assert plain.nats == pytest.approx(bias.nats)
    with pytest.raises(ParameterError, match="one of the two"):
        InductiveBias().measure(X[:100], y[:100], X[1200:1260], y[1200:1260])


def test_the_interval_covers_what_other_test_points_give(digits):
    """Intervals of samples of 50 points hold the mean over samples about as often as they say."""
    X, y = digits
    rates, widths = [], []
    rng = np.random.default_rng(0)
    for trial in range(40):
        points = rng.choice(len(X) - 150, 50, replace=False) + 150
        space = InductiveBias(sigma=2.0, draws=40, seed=trial).open(Task.of(X[:150], y[:150], X[points], y[points]))
        rates.append(space.nats(0.03))
        widths.append(space.interval(0.03))
    middle = np.mean(rates)
    inside = sum(low <= middle <= high for low, high in widths)
    assert 33 <= inside <= 40


def test_a_space_without_freedom_is_said():
    """A kernel so smooth that 60 rows leave it no way to follow a step: the figure is the jitter's."""
    X = np.random.default_rng(0).normal(size=(80, 2))
    y = (X[:, 0] > 0).astype(int)
    split = X[:60], y[:60], X[60:], y[60:]
    frozen, free = (InductiveBias(sigma=sigma, draws=0).measure(*split, epsilon=0.05) for sigma in (5.0, 0.3))
    assert "depends on the jitter" in frozen.notes[-1]
    assert not free.notes
    other = InductiveBias(sigma=5.0, draws=0, jitter=1e-6).measure(*split, epsilon=0.05)
    assert frozen.nats > 1.5 * other.nats


def test_exact_and_papers_tail_agree_where_errors_are_drawn(digits):
    task = task_of(digits, 100, 60)
    exact = InductiveBias(sigma=4.0).open(task)
    paper = InductiveBias(sigma=4.0, tail="paper", samples=3000).open(task)
    epsilon = float(np.quantile(exact.errors, 0.05))
    assert exact.nats(epsilon) == pytest.approx(3.0, abs=0.2)
    assert paper.nats(epsilon) == pytest.approx(3.0, abs=0.25)
    low, high = paper.interval(epsilon)
    assert low < paper.nats(epsilon) < high
    assert high - low < 1
    assert InductiveBias(sigma=4.0, tail="released", samples=200).open(task).interval(epsilon) is None


# Trained networks


def test_a_network_is_the_same_whoever_its_neighbours_are(digits):
    task, training = task_of(digits, 60, 20), Training(epochs=3)
    for spec in (Spec("mlp", (8, 6)), Spec("cnn", (3, 2))):
        together, fitted = train(spec, task, [5, 6, 7], training)
        alone, own = train(spec, task, [6], training)
        np.testing.assert_allclose(alone[0], together[1], atol=1e-5)
        np.testing.assert_allclose(own[0], fitted[1], atol=1e-5)
        assert np.abs(together[0] - together[1]).max() > 1e-3
        assert together.shape == (3, 20)


def test_a_network_learns_as_pytorchs_own_layers_do(digits):
    """Errors after training are within those of a dozen plain networks: averaged over points and outputs, not by the batch size."""
    task, training = task_of(digits, 200, 100), Training(epochs=40)
    ours = train(Spec("mlp", (32,)), task, range(8), training)[0].mean(1)
    X, Y, T, U = (torch.from_numpy(part).float() for part in (task.X_train, task.Y_train, task.X_test, task.Y_test))
    plain = []
    for seed in range(8):
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(40):
            for batch in torch.randperm(200).split(32):
                optimizer.zero_grad()
                torch.nn.functional.mse_loss(model(X[batch]), Y[batch]).backward()
                optimizer.step()
        plain.append(torch.nn.functional.mse_loss(model(T), U).item())
    assert ours.mean() == pytest.approx(np.mean(plain), rel=0.05)
    assert ours.std() > 0


def test_what_was_trained_is_kept_and_a_cut_run_goes_on(digits, tmp_path, monkeypatch):
    task, training, spec = task_of(digits, 60, 20), Training(epochs=2), Spec("mlp", (8,))
    whole = sample_networks(spec, task, range(25), training)
    sample_networks(spec, task, range(10), training, Kept(tmp_path, "networks.jsonl"))
    with (tmp_path / "networks.jsonl").open("a") as file:
        file.write('{"key": "cut by a k')
    asked = []
    monkeypatch.setattr(
        "regraft.probe.probes.inductive_bias.networks.train", lambda s, t, seeds, how: asked.extend(seeds) or train(s, t, seeds, how)
    )
    again = sample_networks(spec, task, range(25), training, Kept(tmp_path, "networks.jsonl"))
    assert asked == list(range(10, 25))
    np.testing.assert_allclose(again.errors, whole.errors, atol=1e-6)
    sample_networks(spec, task, range(25), training, Kept(tmp_path, "networks.jsonl"))
    assert len(asked) == 15
    sample_networks(spec, task, range(2), Training(epochs=3), Kept(tmp_path, "networks.jsonl"))  # other settings, other networks
    assert len(asked) == 17


def test_a_space_of_networks_is_measured_by_the_papers_fit(digits):
    method = InductiveBias(space="mlp:8", samples=40, epochs=15, draws=30)
    space = method.open(task_of(digits, 100, 40))
    middle = space.measure(float(np.median(space.errors)))
    assert (middle.tail, middle.samples, middle.sigma, middle.in_range) == ("paper", 40, None, True)
    assert middle.nats == pytest.approx(np.log(2), abs=0.25)
    low = space.measure(float(space.errors.min()) * 0.8)
    assert not low.in_range
    assert low.nats > 3
    few = InductiveBias(space="mlp:8", samples=5, epochs=1, draws=0).open(task_of(digits, 100, 40))
    assert any("too few" in note for note in few.notes)
    with pytest.raises(ParameterError, match="fit the training rows within"):
        InductiveBias(space="mlp:8", samples=5, epochs=1, interpolation=1e-6).open(task_of(digits, 100, 40))


# Bad input

X4 = np.arange(8.0).reshape(4, 2)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((X4, [1, 1, 1, 1], X4, [1, 1, 1, 1]), "one class"),
        ((X4 * [1, np.nan], [0, 1, 0, 1], X4, [0, 1, 0, 1]), "row 0 holds NaN"),
        ((X4[:1], [0], X4, [0, 1, 0, 1]), "give at least two"),
        ((X4, [0, 1, 0, 1], X4[:, :1], [0, 1, 0, 1]), "2 columns, test rows 1"),
        ((X4, [0, 1, 0], X4, [0, 1, 0, 1]), "4 training rows and targets"),
        ((np.ones((4, 2)), [0, 1, 0, 1], X4, [0, 1, 0, 1]), "all training rows are equal"),
        ((X4, [2.0, 2.0, 2.0, 2.0], X4, [0.0, 1.0, 0.5, 1.0]), "all training targets are equal"),
        ((X4[0], [0, 1], X4, [0, 1, 0, 1]), "shape"),
        ((X4[:0], [], X4, [0, 1, 0, 1]), "shape"),
        (([["a", "b"]] * 4, [0, 1, 0, 1], X4, [0, 1, 0, 1]), "not numbers"),
        ((X4, np.ones((4, 2)) * [[1], [2], [3], [4]], X4, np.ones((4, 3))), "training targets have 2 columns"),
    ],
)
def test_arrays_that_are_no_task_are_refused(given, says):
    with pytest.raises(RowsError, match=says):
        InductiveBias().measure(*given, epsilon=0.1)


def test_settings_that_mean_nothing_are_refused():
    for epsilon in (0, -1, np.nan, np.inf):
        with pytest.raises(ParameterError, match="above 0"):
            InductiveBias().measure(X4, [0, 1, 0, 1], X4, [0, 1, 0, 1], epsilon=epsilon)
    for text, says in (("rbff", "unknown"), ("rbf:3", "takes no number"), ("mlp:", "whole numbers"), ("mlp:0", "at least 1"),
                       ("nngp:2,2", "whole numbers"), ("mlp:9999999", "too large"), ("nngp:999", "too large")):  # fmt: skip
        with pytest.raises(ParameterError, match=says):
            parse_space(text)
    with pytest.raises(ParameterError, match="no square images"):
        InductiveBias(space="cnngp:2").measure(X4, [0, 1, 0, 1], X4, [0, 1, 0, 1], epsilon=0.1)
    with pytest.raises(ParameterError, match="unknown: choose from mlp"):
        parse_model("rbf")
    with pytest.raises(ParameterError, match="half of all pairs"):
        median_distance(np.zeros((5, 2)))
    with pytest.raises(ParameterError, match="sigma"):
        resolve("probe", "inductive-bias", {"sigma": -1})


def test_constant_columns_are_said_and_stay_finite():
    X = np.column_stack([X4, np.full(4, 7.0)])
    task = Task.of(X, [0, 1, 0, 1], X + 1, [0, 1, 0, 1])
    assert "1 of 3 columns are constant" in task.notes[0]
    scaled = standardized(task)
    assert np.isfinite(scaled.X_test).all()
    assert not scaled.X_test[:, 2].any()
    assert scaled.X_train[:, :2].std(0) == pytest.approx([1, 1])
