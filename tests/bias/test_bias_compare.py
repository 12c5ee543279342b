"""`regraft bias compare` on digits: the plain baseline, kept rows, bad input."""

import json

import pytest

from regraft.bias.compare import compare
from regraft.bias.prior import Plan
from regraft.bias.tasks.task import digits, open_task
from regraft.errors import ParameterError


def test_the_plain_network_learns_digits(tmp_path):
    done = compare(digits(examples=200), methods=["plain-classifier"], plan=Plan(steps=60), seeds=2, out=tmp_path)
    [row] = done.rows
    assert row["accuracy"] > 0.8
    assert row["parameters"] == 64 * 256 + 256 + 256 * 256 + 256 + 256 * 10 + 10
    assert json.loads((tmp_path / "comparison.json").read_text())["rows"][0]["accuracy"] == row["accuracy"]
    again = compare(digits(examples=200), methods=["plain-classifier"], plan=Plan(steps=60), seeds=2, out=tmp_path)
    assert again.rows[0]["seconds"] == row["seconds"]  # kept, not trained again


def test_bad_input():
    with pytest.raises(ParameterError, match="unknown task nothing: choose digits"):
        open_task("nothing")
    with pytest.raises(ParameterError, match=r"no prior that learns labels: choose .*plain-classifier"):
        compare(digits(), methods=["nothing"])
    with pytest.raises(ParameterError, match="that method is not compared"):
        compare(digits(), settings={"nothing": {}})
