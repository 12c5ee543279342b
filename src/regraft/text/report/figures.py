"""Pictures of encoders: quality beside speed, and what concepts add to a cosine."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from regraft.report import escape
from regraft.report.figures import PALETTE, SYMBOLS, line_colors


def quality_by_speed(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """One mark an encoder: texts a second (logarithmic) and the mean over tasks."""
    figure = go.Figure()
    colors = line_colors([row["method"] for row in rows])
    for number, row in enumerate(rows):
        name = escape(row["method"])
        figure.add_scatter(
            x=[row["texts_per_second"]],
            y=[row["quality"]],
            mode="markers+text",
            text=[name],
            textposition="top center",
            name=name,
            marker={"size": 11, "color": colors[row["method"]], "symbol": SYMBOLS[number % len(SYMBOLS)]},
            hovertemplate=f"<b>{name}</b><br>quality %{{y:.3f}}, %{{x:.0f}} texts a second<extra></extra>",
        )
    figure.update_xaxes(type="log", title="texts a second")
    figure.update_yaxes(title="quality (mean over tasks)")
    return figure.update_layout(height=440, showlegend=False)


def contribution_bars(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """One bar a row, by its `contribution`, the first on top."""
    figure = go.Figure()
    figure.add_bar(
        x=[row["contribution"] for row in rows],
        y=[f"{number}. {escape(row['concept'])}" for number, row in enumerate(rows, 1)],
        orientation="h",
        marker={"color": PALETTE[0]},
        hovertemplate="<b>%{y}</b><br>%{x:.4f} of the cosine<extra></extra>",
    )
    figure.update_xaxes(title="contribution to the cosine")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure.update_layout(height=120 + 26 * len(rows), showlegend=False)
