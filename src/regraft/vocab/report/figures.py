"""Plots of a vocabulary: what methods cost beside what they save, and how long the new tokens are."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from regraft.report import escape
from regraft.report.figures import MARGIN, PALETTE, SYMBOLS, UNTOUCHED, label_right, line_colors, padded_range


def trade_off(
    rows: Sequence[Mapping[str, Any]],
    *,
    x: str = "tokens_per_byte",
    y: str = "bits_per_byte",
    label: str = "method",
    drift: str | None = "drift_bits_per_byte",
    untouched: str = "untouched",
    x_title: str = "tokens per byte",
    y_title: str = "bits per byte",
    height: int = 460,
) -> go.Figure:
    """One mark per method; lower left is better. Rows that lack x or y (a method that failed) are left out.

    Parameters
    ----------
    rows : as `regraft compare --json` prints them. `drift` is an optional key: the more drift, the larger the mark.
    untouched : label of the model as it was, drawn as a grey cross with guide lines.
    """
    points = [row for row in rows if row.get(x) is not None and row.get(y) is not None]
    worst = max((abs(row.get(drift) or 0.0) for row in points), default=0.0) if drift else 0.0
    figure = go.Figure()
    colors = line_colors([str(row[label]) for row in points], untouched)
    for index, row in enumerate(points):
        name, moved = str(row[label]), abs((row.get(drift) or 0.0) if drift else 0.0)
        size = 11 + (14 * moved / worst if worst else 0)
        about = f"<b>{escape(name)}</b><br>{x_title} {row[x]:.4g}<br>{y_title} {row[y]:.4g}"
        if drift and row.get(drift) is not None:
            about += f"<br>{escape(drift.replace('_', ' '))} {row[drift]:+.4g}"
        symbol = "x" if name == untouched else SYMBOLS[index // len(PALETTE) % len(SYMBOLS)]
        marker = {
            "size": size,
            "color": colors[name],
            "symbol": symbol,
            "opacity": 0.9,
            "line": {"width": 1, "color": "rgba(128,128,128,0.5)"},
        }
        figure.add_scatter(
            x=[row[x]], y=[row[y]], mode="markers", name=escape(name), marker=marker, hovertemplate=about + "<extra></extra>"
        )
        if name == untouched:
            figure.data[-1].marker.size = 13
            figure.add_hline(y=row[y], line={"color": UNTOUCHED, "width": 1, "dash": "dot"})
            figure.add_vline(x=row[x], line={"color": UNTOUCHED, "width": 1, "dash": "dot"})
    low, high = padded_range([float(row[x]) for row in points])
    for row in points:
        if row[label] != untouched:
            line = {"color": colors[str(row[label])], "width": 1, "dash": "dot"}
            figure.add_scatter(x=[row[x], high], y=[row[y]] * 2, mode="lines", opacity=0.45, line=line, hoverinfo="skip")
    figure.update_xaxes(title=x_title, range=[low, high])
    label_right(figure, [(str(row[label]), float(row[x]), float(row[y]), colors[str(row[label])]) for row in points], height)
    return figure.update_layout(height=height, showlegend=False, yaxis_title=y_title)


def token_lengths(surfaces: Sequence[bytes], *, height: int = 320) -> go.Figure:
    """How long new pieces are: a bar per length, in bytes and in characters (pieces that are not whole characters count in bytes only)."""
    in_bytes = Counter(len(surface) for surface in surfaces)
    in_characters = Counter(length for length in map(_characters, surfaces) if length is not None)
    figure = go.Figure()
    for name, counts, color in (("characters", in_characters, PALETTE[0]), ("bytes", in_bytes, PALETTE[1])):
        lengths = sorted(counts)
        about = f"%{{y:,}} pieces of %{{x}} {name}<extra></extra>"
        figure.add_bar(x=lengths, y=[counts[n] for n in lengths], name=name, marker={"color": color}, hovertemplate=about)
    figure.update_xaxes(title="length of a new piece", rangemode="tozero", tickformat="d")
    figure.update_layout(
        height=height,
        barmode="group",
        bargap=0.2,
        yaxis_title="pieces",
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
        margin={**MARGIN, "t": 32, "r": 24},
    )
    return figure


def _characters(surface: bytes) -> int | None:
    try:
        return len(surface.decode())
    except UnicodeDecodeError:
        return None
