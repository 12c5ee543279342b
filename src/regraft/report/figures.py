"""Plots of a vocabulary report: each function turns plain data into a plotly figure.

Colours come from a palette that colour-blind readers can tell apart and that stands out on white and on black; lines also differ by dash
and marks by shape, so no plot is read by colour alone. Fonts, grids and backgrounds are the page's (see `regraft.report`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from regraft.report import escape

PALETTE = ("#4a90d9", "#d55e00", "#009e73", "#cc79a7", "#c79a00", "#7f6fd0", "#b0418f", "#a0674b")
UNTOUCHED = "#8b939b"
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "pentagon", "hexagon")
LABEL_GAP = 17  # pixels between the labels at the right edge
LABEL_FONT = 12
LABEL_CHARACTERS = 26
MARGIN = {"l": 56, "t": 12, "b": 56}


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
    colors = _colors([str(row[label]) for row in points], untouched)
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
    low, high = _range([float(row[x]) for row in points])
    for row in points:
        if row[label] != untouched:
            line = {"color": colors[str(row[label])], "width": 1, "dash": "dot"}
            figure.add_scatter(x=[row[x], high], y=[row[y]] * 2, mode="lines", opacity=0.45, line=line, hoverinfo="skip")
    figure.update_xaxes(title=x_title, range=[low, high])
    _label_right(figure, [(str(row[label]), float(row[x]), float(row[y]), colors[str(row[label])]) for row in points], height)
    return figure.update_layout(height=height, showlegend=False, yaxis_title=y_title)


def training_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    untouched: float | None = None,
    x_title: str = "seconds of training",
    y_title: str = "bits per byte",
    height: int = 440,
) -> go.Figure:
    """One line per method of (seconds, bits per byte); the untouched model's bits per byte is a dashed level line."""
    figure = go.Figure()
    colors = _colors(list(curves))
    ends = []
    for index, (name, points) in enumerate(curves.items()):
        if not points:
            continue
        seconds, bits = zip(*points, strict=True)
        line = {"color": colors[name], "width": 2, "dash": DASHES[index // len(PALETTE) % len(DASHES)]}
        about = f"<b>{escape(name)}</b><br>%{{y:.4f}} after %{{x:.0f}} s<extra></extra>"
        figure.add_scatter(
            x=list(seconds), y=list(bits), mode="lines+markers", marker={"size": 5}, name=escape(name), line=line, hovertemplate=about
        )
        ends.append((name, float(seconds[-1]), float(bits[-1]), colors[name]))
    values = [bits for points in curves.values() for _, bits in points] + ([untouched] if untouched is not None else [])
    last = max((end[1] for end in ends), default=1.0)
    figure.update_xaxes(title=x_title, range=[-0.02 * last, 1.02 * last or 1.0])
    if untouched is not None:
        figure.add_hline(y=untouched, line={"color": UNTOUCHED, "width": 2, "dash": "dash"})
        ends.append(("untouched", last, untouched, UNTOUCHED))
    _label_right(figure, ends, height, values)
    return figure.update_layout(height=height, showlegend=False, yaxis_title=y_title)


def learning_curves(
    curves: Mapping[str, Sequence[tuple[float, float, float, float]]],
    *,
    reference: str,
    x_title: str = "labelled training examples",
    y_title: str = "F1",
    height: int = 440,
) -> go.Figure:
    """One line per way of (examples, score, low, high) on a logarithmic axis, with its interval as a bar; `reference` is grey, dashed."""
    figure = go.Figure()
    colors = _colors(list(curves), reference)
    ends = []
    for index, (name, points) in enumerate(curves.items()):
        examples, scores, lows, highs = (list(column) for column in zip(*points, strict=True))
        dash = "dash" if name == reference else DASHES[index // len(PALETTE) % len(DASHES)]
        spread_up = [high - score for score, high in zip(scores, highs, strict=True)]
        spread_down = [score - low for score, low in zip(scores, lows, strict=True)]
        bars_shown = {"type": "data", "symmetric": False, "array": spread_up, "arrayminus": spread_down, "thickness": 1, "width": 3}
        figure.add_scatter(
            x=examples,
            y=scores,
            mode="lines+markers",
            name=escape(name),
            marker={"size": 6, "symbol": SYMBOLS[index % len(SYMBOLS)], "color": colors[name]},
            line={"color": colors[name], "width": 2, "dash": dash},
            error_y={**bars_shown, "color": colors[name]},
            hovertemplate=f"<b>{escape(name)}</b><br>%{{y:.3f}} with %{{x:,}} examples<extra></extra>",
        )
        ends.append((name, float(examples[-1]), float(scores[-1]), colors[name]))
    ticks = sorted({point[0] for points in curves.values() for point in points})
    figure.update_xaxes(title=x_title, type="log", tickvals=ticks, ticktext=[f"{tick:,.0f}" for tick in ticks])
    _label_right(figure, ends, height, [bound for points in curves.values() for point in points for bound in point[2:]])
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


def bars(values: Mapping[str, float | None], *, title: str, untouched: str = "untouched", ascending: bool = True) -> go.Figure:
    """Horizontal bars, the best on top (`ascending`: lowest is best), the untouched model in grey; None is left out.

    `title` names the quantity and its unit.
    """
    present = {name: float(value) for name, value in values.items() if value is not None}
    names = sorted(present, key=lambda name: present[name], reverse=ascending)  # plotly draws from the bottom up
    figure = go.Figure(
        go.Bar(
            x=[present[name] for name in names],
            y=[escape(name) for name in names],
            orientation="h",
            text=[f"{present[name]:.3g}" if abs(present[name]) < 1000 else f"{present[name]:,.0f}" for name in names],
            textposition="auto",
            marker={"color": [UNTOUCHED if name == untouched else PALETTE[0] for name in names]},
            hovertemplate="%{y}: %{x:,.4g}<extra></extra>",
        )
    )
    figure.update_xaxes(title=escape(title))
    return figure.update_layout(height=90 + 30 * len(names), bargap=0.28, margin={**MARGIN, "l": 12, "r": 24})


def _characters(surface: bytes) -> int | None:
    try:
        return len(surface.decode())
    except UnicodeDecodeError:
        return None


def _colors(names: Sequence[str], untouched: str = "untouched") -> dict[str, str]:
    others = [name for name in names if name != untouched]
    return {untouched: UNTOUCHED} | {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(others)}


def _range(values: Sequence[float], pad: float = 0.08) -> tuple[float, float]:
    if not values:
        return (0.0, 1.0)
    low, high = min(values), max(values)
    room = (high - low or abs(high) or 1.0) * pad
    return (low - room, high + room)


def _label_right(
    figure: go.Figure, ends: Sequence[tuple[str, float, float, str]], height: int, values: Sequence[float] | None = None
) -> None:
    """Name each (label, x, y, colour) in the right margin, moved apart where they would overlap; a thin line leads to its height."""
    low, high = _range(list(values) if values else [y for _, _, y, _ in ends])
    plot_height = height - MARGIN["t"] - MARGIN["b"]
    scale = plot_height / (high - low)
    ordered = sorted(ends, key=lambda end: end[2])
    places = spread([(y - low) * scale for _, _, y, _ in ordered], LABEL_GAP, plot_height)
    for (name, _, y, color), place in zip(ordered, places, strict=True):
        lift = place - (y - low) * scale
        shown = name if len(name) <= LABEL_CHARACTERS else name[: LABEL_CHARACTERS - 1] + "…"
        figure.add_annotation(
            {"x": 1, "xref": "paper", "y": y, "yref": "y", "ax": 18, "ay": -lift, "xanchor": "left", "arrowhead": 0, "arrowwidth": 1}
            | {"arrowcolor": color, "text": escape(shown), "font": {"color": color, "size": LABEL_FONT}}
        )
    longest = max((min(len(name), LABEL_CHARACTERS) for name, *_ in ends), default=0)
    figure.update_yaxes(range=[low, high])
    figure.update_layout(margin={**MARGIN, "r": 24 + 7 * longest})


def spread(places: Sequence[float], gap: float, top: float) -> list[float]:
    """Ascending positions moved as little as needed so that neighbours are at least `gap` apart, within [0, top] where they fit."""
    groups: list[tuple[float, int]] = []  # (middle, members) of labels that touch; groups that meet become one, centred on their mean
    for place in places:
        groups.append((place, 1))
        while True:
            middle, size = groups.pop()
            half = (size - 1) * gap / 2
            middle = max(min(middle, top - half), half)
            if not groups or groups[-1][0] + (groups[-1][1] - 1) * gap / 2 + gap <= middle - half + 1e-9:
                groups.append((middle, size))
                break
            before, count = groups.pop()
            groups.append(((before * count + middle * size) / (count + size), count + size))
    return [middle + (index - (size - 1) / 2) * gap for middle, size in groups for index in range(size)]
