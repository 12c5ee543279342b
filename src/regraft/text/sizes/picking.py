"""Which size? Quality beside speed of every trained size, measured on this machine.

Enters: a model that was trained at several sizes, and tasks. Leaves: one row a size, small to large, the size that is enough, and the page.
"""

import json
from pathlib import Path
from typing import Any

from regraft.errors import ParameterError
from regraft.progress import step
from regraft.report import Report
from regraft.text.compare import Compared, compare
from regraft.text.loading import load
from regraft.text.report.figures import quality_by_speed
from regraft.text.sizes.cutting import sizes_kept

ENOUGH = 0.95  # of the full size's quality
COLUMNS = ("quality", "texts_per_second", "weights_mb")


def pick(
    model: str,
    *,
    tasks: str = "sts",
    enough: float = ENOUGH,
    out: Path | None = None,
    max_tokens: int | None = None,
    batch_size: int = 32,
    device: str = "cpu",
) -> Compared:
    """Measure every trained size of `model` on `tasks`, cut and not only skipped, and name the fastest with `enough` of the full quality.

    With `out`, `sizes.json`, `sizes.html` and what `regraft text compare` writes are there; an interrupted run goes on. Raises
    `CheckpointError` for a model that was trained at no size.
    """
    if not 0 < enough <= 1:
        raise ParameterError(f"--enough {enough}: a share of the full size's quality, above 0 and at most 1")
    with step("reading which sizes were trained"):
        sizes = sizes_kept(load(model), model).sizes
    full, *others = sorted(sizes, reverse=True)
    ways = {f"{model}@cut:layers={n},dimensions={d}": (n, d) for n, d in [full, *others]}
    done = compare(list(ways), tasks=tasks, out=out, max_tokens=max_tokens, batch_size=batch_size, device=device)
    size_of = {way.rstrip("/").split("/")[-1]: size for way, size in ways.items()}
    measured = {size_of[row["method"]]: row for row in done.rows}
    rows = [_row(size, measured[size], measured[full]) for size in sorted(measured)]
    report = _report(Path(model).name, rows, enough, tasks)
    if out is not None:
        (out / "sizes.json").write_text(json.dumps({"rows": rows}, indent=1), encoding="utf-8")
        report.save_html(out / "sizes.html")
    return Compared(rows, report)


def _row(size: tuple[int, int], row: dict[str, Any], full: dict[str, Any]) -> dict[str, Any]:
    figures: dict[str, Any] = {"size": f"{size[0]},{size[1]}", "layers": size[0], "dimensions": size[1]}
    if row.get("error"):
        return figures | {"error": row["error"]}
    return figures | {
        **{name: row[name] for name in COLUMNS},
        "of_full": row["quality"] / full["quality"] if full["quality"] else None,
        "times_as_fast": row["texts_per_second"] / full["texts_per_second"],
        "milliseconds_a_text": 1000 / row["texts_per_second"],
    }


def _report(name: str, rows: list[dict[str, Any]], enough: float, tasks: str) -> Report:
    good = [row for row in rows if (row.get("of_full") or 0) >= enough]
    lead = "No size was measured."
    if good:
        best = max(good, key=lambda row: row["texts_per_second"])
        lead = f"{best['size']} is enough: {best['of_full']:.0%} of the full quality, {best['times_as_fast']:.1f} times as fast."
    report = Report(f"Sizes of {name}", lead)
    measured = [row | {"method": row["size"]} for row in rows if "quality" in row]
    report.add_figure(
        "Quality beside speed", quality_by_speed(measured), "Layers, dimensions. Up and to the right is better; measured here."
    )
    caption = f"Each size cut, not read early. Quality is the mean over {tasks}; enough is {enough:.0%} of the full size's."
    report.add_table("Sizes", rows, caption)
    return report
