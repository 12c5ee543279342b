"""A comparison on paper: its tables for a report, and the two files it leaves."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from regraft.comparison.outcome import Metric, Outcome, Row
from regraft.errors import OutputError
from regraft.output import check_outside
from regraft.report import Report

HOLDS_OTHER = ("modules.json", "config.json", "regraft.json")
COSTS = {"seconds": "low", "peak_mb": "low"}


def tables_of(
    rows: Sequence[Row], outcomes: Mapping[str, Outcome], metric: Metric, caption: str = "", hidden: Collection[str] = ()
) -> Iterator[dict[str, Any]]:
    """What `Report.add_table` takes, a table at a time: the methods, those that failed, and what any had to say.

    `hidden` are keys of rows that are not shown.
    """
    measured = [row for row in rows if row.get("error") is None or row[metric.name] is not None]  # training alone may have failed
    better = {metric.name: metric.direction, metric.after: metric.direction, **COSTS}
    yield {"title": "Methods", "rows": [shown(row, hidden) for row in measured], "caption": caption, "best": better}
    failed = [{"method": row["method"], "error": row["error"]} for row in rows if row.get("error") is not None]
    if failed:
        yield {"title": "Failed", "rows": failed, "caption": "The others went on without them."}
    notes = [{"method": name, "note": note} for name, one in outcomes.items() for note in one.notes]
    if notes:
        yield {"title": "Notes", "rows": notes, "caption": "What the methods had to say."}


def shown(row: Row, hidden: Collection[str] = ()) -> Row:
    """The row for people: the distance to the first and half its interval in one cell."""
    own = {name: value for name, value in row.items() if name != "error" and name not in hidden}
    behind, low, high = (own.pop(name, None) for name in ("behind_first", "behind_first_low", "behind_first_high"))
    return own | {"behind_first": None if behind is None else f"{behind:+.3f}±{(high - low) / 2:.3f}"}


def check_out(out: str | Path, sources: Sequence[Path] = ()) -> None:
    """Raise `OutputError` if a comparison may not be kept in `out`: it lies inside one of `sources`, is a file, or holds a model."""
    check_outside(out, sources)
    if Path(out).is_file():
        raise OutputError(f"{out}: is a file: choose another output directory")
    for name in HOLDS_OTHER:
        if Path(out, name).is_file():
            raise OutputError(f"{out}: holds a model or another output ({name}), no comparison: choose another output directory")


def save(out: str | Path, figures: Mapping[str, Any], report: Report) -> None:
    """Write `comparison.json` with `figures` and `comparison.html` into the folder `out`."""
    Path(out).mkdir(parents=True, exist_ok=True)
    Path(out, "comparison.json").write_text(json.dumps(figures, indent=1, ensure_ascii=False), encoding="utf-8")
    report.save_html(Path(out) / "comparison.html")
