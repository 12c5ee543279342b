"""Plots of a vocabulary report: each function turns plain data into a plotly figure.

Colours come from a palette that colour-blind readers can tell apart and that stands out on white and on black; lines also differ by dash
and marks by shape, so no plot is read by colour alone. Fonts, grids and backgrounds are the page's (see `regraft.report`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from regraft.report import escape

PALETTE = ("#4a90d9", "#d55e00", "#009e73", "#cc79a7", "#c79a00", "#7f6fd0", "#b0418f", "#a0674b")
UNTOUCHED = "#8b939b"
DASHES = ("solid", "dash", "dot", "dashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "pentagon", "hexagon")
WHOLE_TICKS = 50  # up to here an axis of whole numbers has ticks at whole numbers alone
LABEL_GAP = 17  # pixels between the labels at the right edge
LABEL_FONT = 12
LABEL_CHARACTERS = 26
MARGIN = {"l": 56, "t": 12, "b": 56}


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
    colors = line_colors(list(curves))
    ends = []
    unit = "s" if "seconds" in x_title else x_title.split()[0]
    for index, (name, points) in enumerate(curves.items()):
        if not points:
            continue
        seconds, bits = zip(*points, strict=True)
        line = {"color": colors[name], "width": 2, "dash": DASHES[index // len(PALETTE) % len(DASHES)]}
        about = f"<b>{escape(name)}</b><br>%{{y:.4f}} after %{{x:.0f}} {unit}<extra></extra>"
        figure.add_scatter(
            x=list(seconds), y=list(bits), mode="lines+markers", marker={"size": 5}, name=escape(name), line=line, hovertemplate=about
        )
        ends.append((name, float(seconds[-1]), float(bits[-1]), colors[name]))
    values = [bits for points in curves.values() for _, bits in points] + ([untouched] if untouched is not None else [])
    last = max((end[1] for end in ends), default=1.0)
    figure.update_xaxes(title=x_title, range=[-0.02 * last, 1.02 * last or 1.0])
    if 0 < last <= WHOLE_TICKS and all(float(point[0]).is_integer() for points in curves.values() for point in points):
        figure.update_xaxes(tickvals=list(range(0, int(last) + 1, -int(-last // 10))))
    if untouched is not None:
        figure.add_hline(y=untouched, line={"color": UNTOUCHED, "width": 2, "dash": "dash"})
        ends.append(("untouched", last, untouched, UNTOUCHED))
    label_right(figure, ends, height, values)
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
    colors = line_colors(list(curves), reference)
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
    label_right(figure, ends, height, [bound for points in curves.values() for point in points for bound in point[2:]])
    return figure.update_layout(height=height, showlegend=False, yaxis_title=y_title)


def dots(rows: Sequence[Mapping[str, Any]], metric: str, *, x_title: str | None = None) -> go.Figure:
    """One mark a row (`method`, and the number called `metric`), the first row's value as a line. The axis begins near the values."""
    figure = go.Figure()
    names = [escape(row["method"]) for row in rows]
    figure.add_scatter(x=[row[metric] for row in rows], y=names, mode="markers", marker={"size": 12, "color": PALETTE[0]})
    figure.add_vline(x=rows[0][metric], line={"dash": "dot"})
    figure.update_xaxes(title=x_title or metric)
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure.update_layout(height=140 + 36 * len(rows), showlegend=False)


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


def line_colors(names: Sequence[str], untouched: str = "untouched") -> dict[str, str]:
    others = [name for name in names if name != untouched]
    return {untouched: UNTOUCHED} | {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(others)}


def padded_range(values: Sequence[float], pad: float = 0.08) -> tuple[float, float]:
    if not values:
        return (0.0, 1.0)
    low, high = min(values), max(values)
    room = (high - low or abs(high) or 1.0) * pad
    return (low - room, high + room)


def label_right(
    figure: go.Figure, ends: Sequence[tuple[str, float, float, str]], height: int, values: Sequence[float] | None = None
) -> None:
    """Name each (label, x, y, colour) in the right margin, moved apart where they would overlap; a thin line leads to its height."""
    low, high = padded_range(list(values) if values else [y for _, _, y, _ in ends])
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
