"""The engine serves whoever has arms and a baseline: regressors of scikit-learn, on few rows and then on all."""

import json

import numpy as np
import pytest
from sklearn.datasets import make_friedman1
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.tree import DecisionTreeRegressor

from regraft.comparison import Arm, Bench, Kept, Metric, Outcome, ranked, run, save, tables_of
from regraft.evaluation.paired import Sample
from regraft.report import Report


class Regressors(Bench):
    metric, reference = Metric("absolute_error"), "dummy"

    def __init__(self, few=40, seed=0):
        X, y = make_friedman1(400, random_state=seed)
        self.train_X, self.train_y, self.test_X, self.test_y = X[:300], y[:300], X[300:], y[300:]
        self.few, self.seed, self.fits = few, seed, []

    def fingerprint(self, *, trained):
        return f"friedman1 {self.seed} {'all' if trained else self.few}"

    def baseline(self):
        return self.measure(Arm(self.reference, DummyRegressor()))

    def measure(self, arm):
        return self.fit(arm, Outcome({"method": arm.name, "error": None}), self.metric.name, self.few)

    def train(self, arm, outcome):
        return self.fit(arm, outcome, self.metric.after, len(self.train_X))

    def fit(self, arm, outcome, figure, rows):
        self.fits.append((arm.name, rows))
        predicted = arm.method.fit(self.train_X[:rows], self.train_y[:rows]).predict(self.test_X)
        outcome.sample = Sample.of(np.abs(predicted - self.test_y))
        outcome.row |= {figure: outcome.sample.value}
        return outcome


ARMS = [Arm("ridge", Ridge()), Arm("neighbors", KNeighborsRegressor()), Arm("tree", DecisionTreeRegressor(random_state=0))]


def compare(out, bench, arms=ARMS, finalists=2):
    outcomes = run(bench, arms, finalists, Kept(out, "rows.jsonl"))
    rows = ranked([one.row for one in outcomes.values()], outcomes, bench.metric)
    report = Report("Regressors")
    for table in tables_of(rows, outcomes, bench.metric, "Mean absolute error on 100 rows."):
        report.add_table(**table)
    save(out, {"rows": rows}, report)
    return rows, report


def error_of(method, rows):
    bench = Regressors()
    return np.abs(method.fit(bench.train_X[:rows], bench.train_y[:rows]).predict(bench.test_X) - bench.test_y).mean()


def test_three_regressors_beside_a_baseline(tmp_path):
    rows, report = compare(tmp_path, bench := Regressors())
    few = {arm.name: error_of(arm.method, 40) for arm in [Arm("dummy", DummyRegressor()), *ARMS]}
    *finalists, last = sorted((arm.name for arm in ARMS), key=few.__getitem__)
    assert {row["method"]: row["absolute_error"] for row in rows} == pytest.approx(few)
    assert rows[0]["method"] == "dummy"
    assert {row["method"] for row in rows[1:3]} == set(finalists)
    assert rows[3]["method"] == last
    assert bench.fits == [*((name, 40) for name in few), *((name, 300) for name in finalists)]
    dummy, first, second, third = rows
    methods = {arm.name: arm.method for arm in ARMS}
    assert first["absolute_error_after"] == pytest.approx(error_of(methods[first["method"]], 300))
    assert first["absolute_error_after"] < second["absolute_error_after"] < dummy["absolute_error"]
    assert second["behind_first"] == pytest.approx(second["absolute_error_after"] - first["absolute_error_after"])
    assert second["behind_first_low"] < second["behind_first"] < second["behind_first_high"]
    assert dummy["behind_first_low"] > 0
    assert "absolute_error_after" not in third
    assert "behind_first" not in third
    assert json.loads((tmp_path / "comparison.json").read_text()) == {"rows": rows}
    assert [section.title for section in report.sections] == ["Methods"]
    assert report.sections[0].best["absolute_error"] == "low"
    assert "ridge" in (tmp_path / "comparison.html").read_text()


def test_it_goes_on_where_it_stopped(tmp_path):
    first, _ = compare(tmp_path, Regressors(), ARMS[:2])
    lines = (tmp_path / "rows.jsonl").read_text()
    again, _ = compare(tmp_path, bench := Regressors(), ARMS[:2])
    assert again == first
    assert bench.fits == []
    assert (tmp_path / "rows.jsonl").read_text() == lines
    compare(tmp_path, bench, [*ARMS[:2], Arm("ridge", Ridge(alpha=2.0))])  # other settings, another row
    assert bench.fits == [("ridge", 40), ("ridge", 300)]
    compare(tmp_path, other := Regressors(seed=1), ARMS[:1])
    assert ("dummy", 40) in other.fits


def test_what_fails_is_its_row_and_is_tried_again(tmp_path):
    broken = Arm("none", KNeighborsRegressor(n_neighbors=100))  # fits and cannot predict: only 40 rows
    for _ in range(2):
        rows, report = compare(tmp_path, bench := Regressors(), [broken, ARMS[0]])
        assert [row["method"] for row in rows] == ["dummy", "ridge", "none"]
        assert rows[2]["error"].startswith("ValueError: Expected n_neighbors")
        (failed,) = [section for section in report.sections if section.title == "Failed"]
        assert failed.rows == [{"method": "none", "error": rows[2]["error"]}]
    assert bench.fits == [("none", 40)]


def test_a_training_that_fails_leaves_the_row_before_it(tmp_path):
    class Short(Regressors):
        def train(self, arm, outcome):
            raise MemoryError("too many rows")

    rows, _ = compare(tmp_path, Short(), ARMS[:1])
    assert rows[1]["error"] == "MemoryError: too many rows"
    assert rows[1]["absolute_error"] > 0


@pytest.mark.parametrize(("finalists", "trained"), [(None, 3), (0, 0), (9, 3)])
def test_all_or_none_are_trained(tmp_path, finalists, trained):
    rows, _ = compare(tmp_path, Regressors(), finalists=finalists)
    assert sum("absolute_error_after" in row for row in rows) == trained
