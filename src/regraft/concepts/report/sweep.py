"""The page of a sweep: scores by strength, images by strength, what each word of the prompt loses, where the U-Net looks."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import torch

from regraft.concepts.judges.judge import Judge
from regraft.concepts.report.sheets import sheet
from regraft.report import Report, escape
from regraft.report.figures import DASHES, PALETTE

SHOWN = 8  # images of a strength
NAMES = {"prompt_match": "prompt match", "identity": "identity", "joint": "both"}


def report_of(
    asked: Any, rows: Sequence[Mapping[str, Any]], images: Mapping[float, torch.Tensor], judge: Judge | None, inside: Mapping[str, Any]
) -> Report:
    """The page. `inside` : what `looked_into` found of the first prompt."""
    report = Report(f"Without {', '.join(asked.unwanted)}", lead(asked, rows, judge))
    if judge is not None:
        report.add_figure("Scores by strength", by_strength(rows), "Bars: 95 % of the mean over images.")
        caption = "Each mark is a strength. A curve that rises steeply to the left gains much of the prompt for little of the concept."
        report.add_figure("Identity beside prompt match", path(rows), caption)
    columns = list(range(0, len(next(iter(images.values()))), asked.copies))[:SHOWN]
    shown = {f"{strength:g}": drawn[columns] for strength, drawn in images.items()}
    prompts = list(asked.prompts)[: len(columns)]
    report.add_html("Images by strength", sheet(shown, prompts), "Each column has the same noise.")
    report.add_html(
        "Where the picture looks",
        sheet({f"{strength:g}": pictures(maps) for strength, maps in inside["maps"].items()}, inside["tokens"]),
        f"Cross attention to each piece of {inside['prompt']!r}, least and greatest strength; black to white: each map's own range.",
    )
    report.add_table("Strengths", rows)
    caption = f"Share of each row of {inside['prompt']!r} that lies in the unwanted directions: what strength 1 takes away."
    report.add_table("What each piece loses", inside["lost"], caption)
    caption = "The prompt's rows by singular values; how much of each component lies in rows of words, and in rows of the padding."
    report.add_table("Components", inside["components"], caption)
    return report


def lead(asked: Any, rows: Sequence[Mapping[str, Any]], judge: Judge | None) -> str:
    """What came of it, in words."""
    told = f"{len(asked.prompts)} prompt(s), {asked.copies} image(s) each, by {asked.method}."
    if judge is None:
        return f"Drawn at {len(rows)} strengths, not judged: give --images with pictures of the concept, and --judge. {told}"
    best = max(rows, key=lambda row: row["joint"])
    first = rows[0]
    known = ", ".join(f"{name} {value:.1%}" for name, value in judge.accuracy.items())
    sure = f" The judge reads images that it has not learned from rightly: {known}." if known else ""
    return (
        f"Strength {best['strength']:g} shows the concept and the rest of the prompt together best: {best['joint']:.3f} "
        f"(identity {best['identity']:.3f}, prompt match {best['prompt_match']:.3f}); at {first['strength']:g} it is {first['joint']:.3f}. "
        f"{told}{sure}"
    )


def by_strength(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """One line a score."""
    figure = go.Figure()
    for place, (name, title) in enumerate(NAMES.items()):
        error = {"type": "data", "array": [row[f"{name}_half_width"] or 0.0 for row in rows], "thickness": 1, "width": 3}
        figure.add_scatter(
            x=[row["strength"] for row in rows],
            y=[row[name] for row in rows],
            mode="lines+markers",
            name=title,
            error_y=error,
            line={"color": PALETTE[place], "dash": DASHES[place]},
        )
    figure.update_xaxes(title="strength")
    figure.update_yaxes(title="score")
    return figure.update_layout(height=420)


def path(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Scores against each other, a mark a strength."""
    figure = go.Figure()
    figure.add_scatter(
        x=[row["identity"] for row in rows],
        y=[row["prompt_match"] for row in rows],
        mode="lines+markers+text",
        text=[escape(f"{row['strength']:g}") for row in rows],
        textposition="top center",
        name="strength",
        line={"color": PALETTE[0]},
    )
    figure.update_xaxes(title="identity")
    figure.update_yaxes(title="prompt match")
    return figure.update_layout(height=420, showlegend=False)


def pictures(maps: torch.Tensor) -> torch.Tensor:
    """Maps (places, h, w) as gray images (places, 3, h, w) in [-1, 1]."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return ((maps - low) / (high - low).clamp(min=1e-12) * 2 - 1)[:, None].expand(-1, 3, -1, -1)
