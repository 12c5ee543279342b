"""The page of one compression: quality beside memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from regraft.report import Report, escape
from regraft.report.figures import SYMBOLS, label_right, line_colors
from regraft.tables.memory import said

HEIGHT = 440


def compression_report(figures: Mapping[str, Any], tried: Sequence[Mapping[str, Any]], plain: Mapping[str, float | None]) -> Report:
    """Lead, picture, what was tried, what the table is made of, and what text costs."""
    of, small = said(figures["plain_bytes"]), said(figures["bytes"])
    lead = (
        f"{figures['rows']:,} rows of {figures['dim']} by {figures['method']}: {small} of {of} ({figures['share']:.1%}), "
        f"{figures['recall']:.1%} of the {figures['k']} nearest rows found again."
    )
    if "after" in figures:
        lead += f" Bits per byte {figures['before']['bits_per_byte']:.3f} before, {figures['after']['bits_per_byte']:.3f} after."
    report = Report("A smaller table", lead)
    measured = [row for row in tried if row["error_said"] is None]
    k = figures["k"]
    report.add_figure(
        "Quality beside memory",
        quality_figure(measured, f"recall@{k}"),
        f"Share of the {k} nearest rows by {figures['similarity']} that are found again, of {figures['queries']:,} exact queries, "
        "with 95 % intervals over them; memory as share of the plain float32 table, logarithmic.",
    )
    whole = {"method": "plain", "budget": "100%", "share": 1.0, "bytes": figures["plain_bytes"], **plain}
    rows = [whole, *({name: value for name, value in row.items() if name != "error_said"} for row in measured)]
    report.add_table(
        "What was tried",
        rows,
        "error: of the values, relative to their norm. cosine: mean over rows. wordsim: Spearman with WordSim-353.",
        best={"recall": "high", "wordsim": "high"},
    )
    if refused := [{"method": row["method"], "budget": row["budget"], "why": row["error_said"]} for row in tried if row["error_said"]]:
        report.add_table("What could not be done", refused)
    report.add_table("What the table holds", [{"part": name, "bytes": size} for name, size in figures["parts"].items()])
    if "after" in figures:
        scores = [_score(stage, figures[stage]) for stage in ("before", "after", "difference")]
        report.add_table("Text", scores, "low and high: 95 % interval over documents; of the difference, paired.")
    return report


def _score(stage: str, score: Mapping[str, Any]) -> dict[str, Any]:
    low, high = score["interval"]
    return {"": stage, "bits_per_byte": score["bits_per_byte"], "low": low, "high": high}


def quality_figure(rows: Sequence[Mapping[str, Any]], y_title: str) -> go.Figure:
    """One line a method over the share of memory (per cent, logarithmic), each point with its interval."""
    figure, ends = go.Figure(), []
    names = list(dict.fromkeys(row["method"] for row in rows))
    colors = line_colors(names)
    for index, name in enumerate(names):
        own = sorted((row for row in rows if row["method"] == name), key=lambda row: row["share"])
        x, y = [100 * row["share"] for row in own], [row["recall"] for row in own]
        up, down = [row["recall_high"] - row["recall"] for row in own], [row["recall"] - row["recall_low"] for row in own]
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines+markers",
            name=escape(name),
            marker={"size": 7, "symbol": SYMBOLS[index % len(SYMBOLS)], "color": colors[name]},
            line={"color": colors[name], "width": 2},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": up,
                "arrayminus": down,
                "thickness": 1,
                "width": 3,
                "color": colors[name],
            },
            hovertemplate=f"<b>{escape(name)}</b><br>%{{y:.3f}} at %{{x:.3g}} %<extra></extra>",
        )
        ends.append((name, x[-1], y[-1], colors[name]))
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]
    figure.update_xaxes(title="memory, % of the plain table", type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
    label_right(figure, ends, HEIGHT, [row[bound] for row in rows for bound in ("recall_low", "recall_high")])
    return figure.update_layout(height=HEIGHT, showlegend=False, yaxis_title=y_title)
