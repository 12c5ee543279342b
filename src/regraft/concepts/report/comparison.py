"""The page of a comparison: identity beside prompt match, contact sheets, curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch

from regraft.comparison import Metric, Outcome, tables_of
from regraft.concepts.judges.judge import Judge
from regraft.concepts.method import Lesson
from regraft.concepts.report.sheets import sheet, strip
from regraft.report import Report, escape
from regraft.report.figures import PALETTE, training_curves

UNRELIABLE = (
    "no judge was given: methods are ranked by their loss on pictures that none of them saw (--judge CLIP_MODEL tells what is drawn)"
)


def report_of(
    lesson: Lesson,
    prompts: Sequence[str],
    seeds: int,
    judge: Judge | None,
    metric: Metric,
    rows: list[dict[str, Any]],
    outcomes: Mapping[str, Outcome],
    images: Path | None,
) -> Report:
    """The page. `images` : folder with a folder of images a method."""
    report = Report(f"Ways to teach {lesson.word}", _lead(lesson, judge, seeds, metric, rows))
    if judge is not None:
        caption = "Right: more of the concept. Up: more of the rest of the prompt. The concept at the cost of the prompt is down right."
        report.add_figure("Identity beside prompt match", plane([row for row in rows if row.get("identity") is not None]), caption)
    if images is not None and (drawn := read_images(images, [row["method"] for row in rows])):
        report.add_html(
            "What each draws", sheet(drawn, [one.format(lesson.word) for one in prompts]), "First seed. Each column has the same noise."
        )
    report.add_html("What was learned from", strip(lesson.pictures.images[:12]))
    curves = {name: one.curve for name, one in outcomes.items() if len(one.curve) > 1}
    if curves:
        report.add_figure(
            "How the losses went",
            training_curves(curves, x_title="steps", y_title="loss"),
            "First seed. Methods with more in their loss are not to be compared here.",
        )
    caption = f"{metric.name}: mean over images and seeds; behind_first with half its 95 % interval over images and seeds."
    for table in tables_of(rows, outcomes, metric, caption):
        report.add_table(**table)
    return report


def _lead(lesson: Lesson, judge: Judge | None, seeds: int, metric: Metric, rows: Sequence[Mapping[str, Any]]) -> str:
    scored = [row for row in rows if row.get(metric.name) is not None]
    best = min(scored, key=lambda row: metric.cost(row[metric.name]))
    told = f"{len(lesson.pictures.images)} picture(s) were learned from, mean of {seeds} seed(s)."
    if judge is None:
        return f"{best['method']} has the least loss on held-out pictures, {best[metric.name]:.4f}; {UNRELIABLE}. {told}"
    known = ", ".join(f"{name} {value:.1%}" for name, value in judge.accuracy.items())
    sure = f" The judge reads images that it has not learned from rightly: {known}." if known else ""
    return (
        f"{best['method']} shows the concept and the rest of the prompt together best: {best['joint']:.3f} "
        f"(identity {best['identity']:.3f}, prompt match {best['prompt_match']:.3f}). {told}{sure}"
    )


def plane(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """One mark a method."""
    figure = go.Figure()
    for place, row in enumerate(rows):
        marker = {"size": 13, "color": PALETTE[place % len(PALETTE)]}
        name = escape(row["method"])
        figure.add_scatter(x=[row["identity"]], y=[row["prompt_match"]], mode="markers", marker=marker, name=name)
    figure.update_xaxes(title="identity", automargin=True)
    figure.update_yaxes(title="prompt match")
    return figure.update_layout(height=440, showlegend=True)


def read_images(folder: Path, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Images (n, 3, h, w) in [-1, 1] of each method that has a folder."""
    from PIL import Image

    found = {}
    for name in names:
        files = sorted((folder / name).glob("*.png"), key=lambda path: int(path.stem))
        if files:
            pixels = np.stack([np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) for path in files])
            found[name] = torch.from_numpy(pixels / 127.5 - 1).permute(0, 3, 1, 2)
    return found
