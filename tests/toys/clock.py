"""A clock for budgets in minutes that counts looks at it, so that a training has as many steps on a busy machine as on a quiet one."""

import itertools

import pytest

from regraft.training.loop import CLOCKS


def count_looks(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.02) -> None:
    """Let a training's wall clock move by `seconds` at each look: it looks once before a step and twice in it."""
    looks = itertools.count()
    monkeypatch.setitem(CLOCKS, "wall", lambda: seconds * next(looks))
