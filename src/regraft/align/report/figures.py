"""Plots of maps between tables of words."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from regraft.report import escape
from regraft.report.figures import DASHES, MARGIN, PALETTE


def precision_bars(rows: Sequence[Mapping[str, Any]], height: int = 380) -> go.Figure:
    """P@1 with its interval where it has one, a group a direction, a bar a way of retrieval; `rows` are those of an evaluation."""
    figure = go.Figure()
    directions = list(dict.fromkeys(str(row["direction"]) for row in rows))
    for number, retrieval in enumerate(dict.fromkeys(str(row["retrieval"]) for row in rows)):
        chosen = {str(row["direction"]): row for row in rows if row["retrieval"] == retrieval}
        own = [chosen[direction] for direction in directions]
        known = all(row["p_at_1_low"] is not None for row in own)
        figure.add_bar(
            x=[escape(direction) for direction in directions],
            y=[row["p_at_1"] for row in own],
            name=retrieval.upper(),
            marker={"color": PALETTE[number], "pattern": {"shape": ("", "/")[number % 2]}},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [row["p_at_1_high"] - row["p_at_1"] for row in own],
                "arrayminus": [row["p_at_1"] - row["p_at_1_low"] for row in own],
            }
            if known
            else None,
            hovertemplate=f"<b>{retrieval.upper()}</b> %{{x}}: P@1 %{{y:.3f}}<extra></extra>",
        )
    return figure.update_layout(height=height, margin=MARGIN, barmode="group", yaxis={"title": "P@1", "rangemode": "tozero"})


def spectra(lines: Mapping[str, Sequence[float]], height: int = 380) -> go.Figure:
    """Singular values of tables, largest first, as shares of their sum; both axes logarithmic."""
    figure = go.Figure()
    for number, (name, values) in enumerate(lines.items()):
        total = sum(values) or 1.0
        figure.add_scatter(
            x=list(range(1, len(values) + 1)),
            y=[value / total for value in values],
            name=escape(name),
            mode="lines",
            line={"color": PALETTE[number % len(PALETTE)], "dash": DASHES[number % len(DASHES)], "width": 2},
        )
    axes = {"xaxis": {"type": "log", "title": "direction"}, "yaxis": {"type": "log", "title": "share of the singular values"}}
    return figure.update_layout(height=height, margin=MARGIN, **axes)
