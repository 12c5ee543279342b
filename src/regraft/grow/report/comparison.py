"""The picture of a comparison of sizes."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go


def before_and_after(rows: Sequence[dict[str, Any]]) -> go.Figure:
    """Bars of bits per byte as grown and after training, the untouched model first."""
    shown = [row for row in rows if row["bits_per_byte"] is not None]
    names = [row["method"] for row in shown]
    figure = go.Figure(go.Bar(name="as grown", y=names, x=[row["bits_per_byte"] for row in shown], orientation="h"))
    if any(row["bits_per_byte_after"] is not None for row in shown):
        figure.add_trace(go.Bar(name="trained", y=names, x=[row["bits_per_byte_after"] for row in shown], orientation="h"))
    figure.update_layout(
        barmode="group", xaxis={"title": {"text": "bits per byte"}}, yaxis={"autorange": "reversed"}, height=140 + 45 * len(shown)
    )
    return figure
