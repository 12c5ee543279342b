"""Which arm is first, which are worth training, and how surely the others are behind."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from regraft.comparison.outcome import Metric, Outcome, Row
from regraft.evaluation.paired import paired_effect
from regraft.progress import progress_bar


def ranked(rows: Sequence[Row], outcomes: Mapping[str, Outcome], metric: Metric) -> list[Row]:
    """The table: `rows` with the baseline's first, then the best, each with how far it is behind that."""
    found = [rows[0], *sorted(rows[1:], key=partial(rank, metric=metric))]
    set_behind(found, outcomes, metric)
    return found


def rank(row: Row, metric: Metric) -> tuple[bool, bool, float]:
    """Sort key, best first: trained rows by `metric` after training, behind them the others by that before it; failures last."""
    before, after = row[metric.name], row.get(metric.after)
    value = after if after is not None else before
    return before is None, after is None, 0.0 if value is None else metric.cost(value)


def best(outcomes: Iterable[Outcome], metric: Metric, count: int | None) -> list[str]:
    """Names of the best arms before training, best first: `count` of them, or all. Arms with the same digest count as one."""
    scored = [one for one in outcomes if one.row[metric.name] is not None]
    scored.sort(key=lambda one: metric.cost(one.row[metric.name]))
    distinct = list(dict.fromkeys(one.digest or one.name for one in scored))[:count]
    return [one.name for one in scored if (one.digest or one.name) in distinct]


def set_behind(rows: Sequence[Row], outcomes: Mapping[str, Outcome], metric: Metric) -> None:
    """Write into each row by how much it is `behind_first`, with a 95 % interval in which hard documents cancel.

    `rows` are ranked, the baseline's first; the first is the next one that has a sample. Rows are compared in what they are ranked by, over
    the same documents; where the first was trained, those that were not are not compared (but for the baseline).
    """
    sample = {name: one.sample for name, one in outcomes.items()}
    first = next((row for row in rows[1:] if sample[row["method"]] is not None), None)
    leading = None if first is None else sample[first["method"]]
    if first is None or leading is None or leading.documents < 2:
        return
    trained = first.get(metric.after) is not None
    with progress_bar("intervals", total=len(rows), unit="rows") as bar:
        for row in rows:
            own, other_stage = sample[row["method"]], row is not rows[0] and trained and row.get(metric.after) is None
            if row is not first and not other_stage and own is not None:
                bar.say(str(row["method"]))
                effect = paired_effect(leading, own)
                low, high = sorted((metric.cost(effect.low), metric.cost(effect.high)))
                row |= {"behind_first": metric.cost(effect.effect), "behind_first_low": low, "behind_first_high": high}
            bar.advance()
