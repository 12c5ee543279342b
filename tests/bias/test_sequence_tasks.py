"""Sequences to learn: what the delay asks for, and state spaces beside recurrent units on it."""

import json

import pytest
import torch
from typer.testing import CliRunner

from regraft.bias.compare import compare
from regraft.bias.prior import Plan
from regraft.bias.tasks.sequences import delay, digit_sequences, noise
from regraft.bias.tasks.task import digits
from regraft.cli.app import app
from regraft.errors import ParameterError


def test_the_delay_asks_for_what_was() -> None:
    task = delay(length=40, late=7, examples=6, held_out=2)
    assert torch.equal(task.y[:, 7:], task.x[:, :-7])
    assert not task.y[:, :7].any()
    found = noise(5, 400, 0.05, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.square().mean(1), torch.ones(5))
    assert torch.fft.rfft(found)[:, 21:].abs().max() < 1e-3
    with pytest.raises(ParameterError, match="delay of 40 steps in 40"):
        delay(length=40, late=40)


def test_permuted_digits_are_the_digits() -> None:
    task, plain = digit_sequences(permuted=True), digits(examples=1000)
    assert task.x.shape == (1000, 64, 1)
    assert torch.equal(task.x[:, :, 0].sort().values, plain.x.flatten(1).sort().values)
    assert not torch.equal(task.x[:, :, 0], plain.x.flatten(1))
    assert torch.equal(digit_sequences().x[:, :, 0], plain.x.flatten(1))


def test_state_spaces_learn_the_delay_sooner() -> None:
    task = delay(length=64, late=20, cut=0.06, examples=60, held_out=30)
    done = compare(task, methods=["s4d", "s4d-random"], plan=Plan(steps=40, batch=20), seeds=2)
    error = {row["method"]: row["relative_error"] for row in done.rows}  # 1 is what silence comes to
    assert error["s4d"] < 0.75 * error["plain-recurrent"]
    assert error["s4d"] < 0.75 * error["s4d-random"]


def test_a_prior_that_fails_has_its_line_beside_the_others() -> None:
    task = delay(length=16, late=4, cut=0.2, examples=6, held_out=2)
    done = compare(task, methods=["s4d"], settings={"s4d": {"d_state": 7}}, plan=Plan(steps=1, batch=2), seeds=1)
    found = {row["method"]: row for row in done.rows}
    assert "conjugate pairs" in found["s4d"]["error"]
    assert found["s4d"]["relative_error"] is None
    assert found["plain-recurrent"]["error"] is None
    assert found["plain-recurrent"]["relative_error"] > 0


def test_the_verb(tmp_path) -> None:
    call = ["bias", "compare", "permuted-digits", "--methods", "s4d", "--set", "s4d.init=lin"]
    done = CliRunner().invoke(app, [*call, "--steps", "80", "--seeds", "1", "--out", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    found = {row["method"]: row for row in json.loads(done.stdout)["rows"]}
    assert found["s4d"]["accuracy"] > 0.3
    refused = CliRunner().invoke(app, [*call, "--set", "s4d.d_state=7", "--steps", "1", "--seeds", "1"])
    assert "conjugate pairs" in refused.output
