"""From a budget to settings: the knob of a method turned by bisection until all fields together fit.

A field is compressed only if it gets smaller; its plain table is kept otherwise (section 3 of the paper).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from regraft.errors import ParameterError
from regraft.tables.memory import WORD, said

ROUNDS = 80


@dataclass(frozen=True)
class Knob:
    """The setting that a budget decides: its `name`, and from where to where it goes for tables of `sizes` rows.

    `whole` : whole numbers only. `rising` : whether memory rises with it, or falls.
    """

    name: str
    low: float
    high: float
    whole: bool = True
    rising: bool = True


class Sized(Protocol):
    """A method as far as budgets go: its name, what it takes, and the setting that decides it."""

    name: str

    def words(self, rows: int, dim: int, **settings: Any) -> float: ...
    def knob(self, sizes: Sequence[int], dim: int) -> Knob | None: ...


def solve(
    method: Sized,
    sizes: Sequence[int],
    dim: int,
    allowed: float,
    settings: Mapping[str, Any],
    *,
    keep_plain: bool = True,
) -> list[dict[str, Any] | None]:
    """Settings for each table of `sizes` rows, such that all take at most `allowed` words; None where the plain table is kept.

    With `keep_plain` off every table is compressed. The largest value of the knob that fits is taken. Raises `ParameterError` where even
    the least does not fit, and says what the least is.
    """
    knob = method.knob(sizes, dim)
    if knob is None or knob.name in settings:
        least = _total(method, sizes, dim, dict(settings), keep_plain)
        _refuse(method, least, allowed, sizes, dim)
        return _each(method, sizes, dim, {}, settings, keep_plain)

    def total(value: float) -> float:
        return _total(method, sizes, dim, {**settings, knob.name: value}, keep_plain)

    smallest = knob.low if knob.rising else knob.high
    if total(smallest) > allowed:
        _refuse(method, total(smallest), allowed, sizes, dim)
    value = _bisected(total, knob, allowed)
    return _each(method, sizes, dim, {knob.name: value}, settings, keep_plain)


def _bisected(total: Callable[[float], float], knob: Knob, allowed: float) -> float:
    """The value at which `total` is largest within `allowed`; at one end of the knob it fits."""
    fits, misses = (knob.low, knob.high) if knob.rising else (knob.high, knob.low)
    if total(misses) <= allowed:
        return misses
    if not knob.whole:
        for _ in range(ROUNDS):
            middle = (fits + misses) / 2
            fits, misses = (middle, misses) if total(middle) <= allowed else (fits, middle)
        return fits
    fits, misses = int(fits), int(misses)
    while abs(fits - misses) > 1:
        middle = (fits + misses) // 2
        fits, misses = (middle, misses) if total(middle) <= allowed else (fits, middle)
    return fits


def _total(method: Sized, sizes: Sequence[int], dim: int, settings: Mapping[str, Any], keep_plain: bool) -> float:
    taken = ((rows * dim, method.words(rows, dim, **settings)) for rows in sizes)
    return sum(min(plain, small) if keep_plain else small for plain, small in taken)


def _each(
    method: Sized, sizes: Sequence[int], dim: int, found: dict[str, Any], settings: Mapping[str, Any], keep_plain: bool
) -> list[dict[str, Any] | None]:
    return [None if keep_plain and method.words(rows, dim, **settings, **found) >= rows * dim else dict(found) for rows in sizes]


def _refuse(method: Sized, least: float, allowed: float, sizes: Sequence[int], dim: int) -> None:
    if least > allowed:
        whole = sum(sizes) * dim
        raise ParameterError(
            f"{method.name}: {said(allowed * WORD)} ({allowed / whole:.3g} of the plain table) is below its floor here: "
            f"the least is {said(least * WORD)} (--budget {math.ceil(least / whole * 1000) / 1000:g})"
        )
