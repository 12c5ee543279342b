"""Methods beside plain tables at several budgets: rows, floors, what is recommended, what is done again, and bad input in one line."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from regraft.cli import app
from regraft.comparison import Outcome
from regraft.tables.ctr.compare import TableBench
from regraft.tables.ctr.measure import sample_of
from regraft.tables.report.comparison import recommend
from toys.clicks import write_csv


def call(*arguments):
    return CliRunner().invoke(app, ["tables", "compare", *map(str, arguments)])


QUICK = ["--label", "click", "--drop", "day", "--steps", 30, "--batch", 64, "--rate", 0.02, "--layers", "16", "--model", "wdl"]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    path = write_csv(folder / "a.csv", 900)
    given = [path, *QUICK, "--budgets", "0.5,10%", "--methods", "hash,svd,int8,dpq", "--seeds", 2, "--out", folder / "out"]
    return given, call(*given, "--json"), folder / "out"


def test_every_method_has_a_row_at_every_budget(compared):
    _, done, out = compared
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    rows = {row["method"]: row for row in found["rows"]}
    assert next(iter(rows)) == "plain"
    assert set(rows) == {"plain"} | {f"{name} at {share}" for name in ("hash", "svd", "int8", "dpq") for share in (0.5, 0.1)}
    assert rows["plain"]["ratio"] == 1
    assert rows["plain"]["auc"] > 0.75
    for row in rows.values():
        if row["error"] is None:
            assert row["ratio"] <= row["asked"] + 1e-6
            assert 0 < row["auc_low"] <= row["auc"] <= row["auc_high"]
            assert row["lookup"] > 0
    assert rows["int8 at 0.1"]["error"].startswith("int8: ")
    assert "the least is" in rows["int8 at 0.1"]["error"]
    assert rows["svd at 0.5"]["training"] == 1  # it is made of a plain table
    assert rows["svd at 0.5"]["stages"].startswith("pretrain")
    assert rows["hash at 0.5"]["training"] < 0.51
    assert [one["budget"] for one in found["recommended"]] == [0.5, 0.1]
    page = (out / "comparison.html").read_text("utf-8")
    assert "AUC beside memory" in page
    assert "take" in page


def test_the_same_call_measures_nothing_again(compared, monkeypatch):
    given, done, out = compared
    asked = []
    trained = TableBench.trained
    monkeypatch.setattr(TableBench, "trained", lambda self, arm, seed: asked.append(arm.name) or trained(self, arm, seed))
    again = call(*given, "--json")
    assert [one["auc"] for one in json.loads(again.stdout)["rows"]] == [one["auc"] for one in json.loads(done.stdout)["rows"]]
    assert set(asked) <= {"int8 at 0.1", "dpq at 0.5", "dpq at 0.1"}  # only what could not be done is asked again
    assert not (out / "state").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--budgets", "0"], "give more than 0 and at most 1"),
        (["--budgets", "120%"], "give more than 0 and at most 1"),
        (["--budgets", "much"], "write a share as 0.1 or 10%"),
        (["--methods", "hesh"], "no such method"),
        (["--set", "hash.places=3", "--methods", "hash"], "hash has no parameter 'places'"),
        (["--set", "robe.z=3", "--methods", "hash"], "no such method is compared"),
        (["--model", "gbdt"], "choose dlrm, wdl, dcn, deepfm"),
        (["--layers", "12,x"], "give widths with commas"),
        (["--label", "nothing"], "no such column"),
        (["--rate", "0"], "learning rates must be above 0"),
    ],
)
def test_bad_input_is_one_line(tmp_path, more, said):
    done = call(write_csv(tmp_path / "a.csv", 60), *QUICK, *more, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert said in done.output
    assert not (tmp_path / "out").exists()


def outcomes(**values):
    """Outcomes whose rows all differ by `values` from a common noise."""
    noise = np.random.default_rng(0).normal(size=200) * 0.01
    return {name: Outcome({"method": name}, sample_of([noise + value])) for name, value in values.items()}


def row(name, auc, training=0.5, asked=0.5, ratio=0.5):
    return {"method": name, "table": name, "asked": asked, "ratio": ratio, "auc": auc, "training": training}


def test_the_best_is_recommended_and_ties_are_said():
    found = outcomes(plain=0.95, a=0.9, b=0.9, c=0.8)
    rows = [row("a", 0.9, training=1.0), row("b", 0.9, training=0.1), row("c", 0.8)]
    first = recommend(0.5, rows, found, {"method": "plain"})
    assert (first["take"], first["tied"]) == ("a", 1)
    assert "tied with b" in first["why"]
    assert "b holds least in training" in first["why"]
    assert first["behind_plain"].startswith("+0.0500")
    alone = recommend(0.5, [rows[0], rows[2]], found, {"method": "plain"})
    assert (alone["take"], alone["why"]) == ("a", "surely the best of 2")


def test_what_takes_more_than_asked_is_not_recommended():
    found = outcomes(plain=0.95, a=0.9, b=0.8)
    assert recommend(0.5, [row("a", 0.9, ratio=0.6), row("b", 0.8)], found, {"method": "plain"})["take"] == "b"
    nobody = recommend(0.1, [row("a", 0.9)], found, {"method": "plain"})
    assert (nobody["take"], nobody["why"]) == (None, "no method reaches this budget")
