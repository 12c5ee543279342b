"""Which run to take, without labels: the paper's rule.

Enters: RankMe of each run, in the order of a swept hyper-parameter where there is one. Leaves: the run, and those it is level with.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from regraft.errors import ParameterError
from regraft.probe.probe import Measurement

Ordered = Literal["no", "smallest", "largest"]


@dataclass(frozen=True)
class Candidate:
    """One run: `name`, its RankMe with an interval, rows and columns measured, and, where known, what they are of ("projector")."""

    name: str
    rank: Measurement
    rows: int
    dim: int
    module: str | None = None


@dataclass(frozen=True)
class Choice:
    """The run to take, those that reach the highest rank within its interval (in the order given), and what to know."""

    name: str
    level: tuple[str, ...]
    notes: tuple[str, ...] = ()


def select(runs: Sequence[Candidate] | Mapping[str, Candidate], *, ordered: Ordered = "no", tolerance: float | None = None) -> Choice:
    """The run with the highest RankMe; among runs in the order of a swept hyper-parameter, the extreme one of the plateau (figure 4).

    Parameters
    ----------
    ordered : "no": the highest rank, ties by name. "smallest" or "largest": the runs stand in ascending order of one hyper-parameter, and
        of those that are level with the highest, next to each other, the first or the last is taken: the end from which the plateau starts.
        Which end the paper means is inferred.
    tolerance : runs within so many dimensions of the highest are level with it; by default the half-width of its interval, or 0.

    Raises `ParameterError` for no runs, for a run without a rank, and for runs that do not compare: other K, other rows, another module.
    """
    candidates = list(runs.values()) if isinstance(runs, Mapping) else list(runs)
    notes = check_alike(candidates)
    best = max(range(len(candidates)), key=lambda i: (candidates[i].rank.value, [-ord(c) for c in candidates[i].name]))
    top = candidates[best].rank
    if tolerance is None:
        tolerance = 0.0 if top.interval is None else top.value - top.interval[0]
    near = [top.value - candidate.rank.value <= tolerance for candidate in candidates]
    if ordered == "no":
        level = tuple(candidate.name for candidate, is_near in zip(candidates, near, strict=True) if is_near)
        return Choice(candidates[best].name, level, tuple(notes))
    low = high = best
    while low > 0 and near[low - 1]:
        low -= 1
    while high + 1 < len(near) and near[high + 1]:
        high += 1
    chosen = candidates[low if ordered == "smallest" else high]
    return Choice(chosen.name, tuple(candidate.name for candidate in candidates[low : high + 1]), tuple(notes))


def check_alike(candidates: Sequence[Candidate]) -> list[str]:
    """Raise `ParameterError` unless ranks of these runs may be compared; returns what is not certain."""
    if not candidates:
        raise ParameterError("no runs to choose from: give at least one")
    if len({candidate.name for candidate in candidates}) < len(candidates):
        raise ParameterError("two runs have one name: name each differently")
    first = candidates[0]
    for other in candidates:
        if other.rank.value != other.rank.value:
            raise ParameterError(f"{other.name}: has no rank (all rows are zero): leave it out")
        if other.dim != first.dim:
            raise ParameterError(
                f"{other.name} has {other.dim} columns and {first.name} {first.dim}: ranks of different K do not compare: "
                "compare runs of one method and one size"
            )
        if other.module != first.module:
            raise ParameterError(f"{other.name} is of '{other.module}' and {first.name} of '{first.module}': measure one module of all")
    if len({candidate.rows for candidate in candidates}) > 1:
        fewest = min(candidate.rows for candidate in candidates)
        if fewest < 5 * first.dim:
            raise ParameterError(f"runs with {fewest:,} rows and more: ranks of so few rows depend on their number: give all runs the same")
        return ["the runs have different numbers of rows: ranks are biased low for few: give all the same"]
    return []
