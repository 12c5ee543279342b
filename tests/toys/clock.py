"""A clock for budgets in minutes that counts looks at it, so that a training has as many steps on a busy machine as on a quiet one."""

import itertools

import pytest

from regraft.training.loop import CLOCKS


def count_looks(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.02, clock: str = "wall") -> None:
    """Let a training's clock move by `seconds` at each look: a step of one batch takes two of them."""
    looks = itertools.count()
    monkeypatch.setitem(CLOCKS, clock, lambda: seconds * next(looks))
