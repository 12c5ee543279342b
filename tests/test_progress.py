"""What a log shall say of long work: where no bar is drawn, a line now and then with how much is done and what is left."""

import io

import pytest
from rich.console import Console

from regraft import progress


@pytest.fixture
def log(monkeypatch):
    console = Console(file=io.StringIO(), width=200, soft_wrap=True)
    monkeypatch.setattr(progress, "console", console)
    return console.file


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_line_now_and_then(log, clock):
    with progress.progress_bar("training", total=12, unit="steps") as bar:
        for step in range(12):
            clock[0] += 6.0
            bar.say(f"loss {step}")
            bar.advance()
    lines = log.getvalue().splitlines()
    assert lines[0] == "  training: 3 of 12 steps, about 54 s left (loss 2)"
    assert len(lines) == 12 * 6 // 18


def test_short_work_says_nothing(log, clock):
    with progress.progress_bar("packing", total=1000, unit="documents") as bar:
        for _ in range(1000):
            clock[0] += 0.001
            bar.advance()
    assert log.getvalue() == ""


def test_work_without_an_end_says_how_far_it_is(log, clock):
    with progress.progress_bar("reading", unit="files") as bar:
        clock[0] += 200.0
        bar.update(1234)
    assert log.getvalue() == "  reading: 1,234 files\n"


def test_a_long_rest_is_in_minutes(log, clock):
    with progress.progress_bar("learning", total=1000, unit="pieces") as bar:
        clock[0] += 30.0
        bar.update(10)
    assert log.getvalue() == "  learning: 10 of 1,000 pieces, about 50 min left\n"
