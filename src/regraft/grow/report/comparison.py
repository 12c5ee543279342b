"""The picture of a comparison of sizes."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

STAGES = {"bits_per_byte": ("as grown", "circle-open"), "bits_per_byte_after": ("trained", "circle")}


def before_and_after(rows: Sequence[dict[str, Any]]) -> go.Figure:
    """Dots of bits per byte as grown and after training, the untouched model first, whose value is a line too."""
    shown = [row for row in rows if row["bits_per_byte"] is not None]
    figure = go.Figure()
    for key, (name, symbol) in STAGES.items():
        there = [row for row in shown if row[key] is not None]
        if there:
            marker = {"size": 12, "symbol": symbol, "line": {"width": 2}}
            x, y = [row[key] for row in there], [row["method"] for row in there]
            figure.add_trace(go.Scatter(name=name, x=x, y=y, mode="markers", marker=marker))
    figure.add_vline(x=shown[0]["bits_per_byte"], line_dash="dot", line_width=1)
    names = [row["method"] for row in shown]
    figure.update_layout(
        xaxis={"title": {"text": "bits per byte"}},
        yaxis={"autorange": "reversed", "categoryorder": "array", "categoryarray": names, "type": "category"},
        height=140 + 45 * len(shown),
        showlegend=True,
    )
    return figure
