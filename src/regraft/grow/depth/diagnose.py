"""The job of `regraft grow linearity`: measure, and keep the page and the figures if asked."""

import json
from pathlib import Path
from typing import Any

from regraft import provenance
from regraft.checkpoint import Checkpoint
from regraft.grow.depth.linearity import linearity
from regraft.grow.depth.stack import LayerStack
from regraft.grow.report.linearity import linearity_report
from regraft.output import atomic_directory, check_output
from regraft.report import Report, plain


def diagnose(model: str | Path, *, out: Path | None = None, seed: int = 0, overwrite: bool = False) -> tuple[Report, dict[str, Any]]:
    """The report and the figures of `model`; with `out` also a directory with both and regraft.json, which appears whole or not at all."""
    checkpoint = Checkpoint.open(model)
    if out is not None:
        check_output(out, overwrite=overwrite, sources=[checkpoint.root])
    found = linearity(LayerStack.open(checkpoint), seed=seed)
    figures = dict(plain(found.figures()))
    report = linearity_report(checkpoint.path.name, found)
    if out is None:
        return report, figures
    record = provenance.record(checkpoint, "grow linearity", seed=seed, metrics={key: figures[key] for key in figures if key != "tensors"})
    with atomic_directory(out, overwrite=overwrite, sources=[checkpoint.root]) as folder:
        report.save_html(folder / "report.html")
        (folder / "linearity.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        provenance.save(record, folder, ["report.html", "linearity.json"])
    return report, figures | {"out": str(out), "report": str(out / "report.html")}
