"""Pictures of inductive bias: against epsilon, against training rows, and where epsilon lies in the law of the error."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from regraft.report import escape
from regraft.report.figures import DASHES, PALETTE, SYMBOLS, UNTOUCHED

Floats = npt.NDArray[np.float64]
LEAST = 0.01  # bits: below, the logarithmic axis ends
LAW_POINTS, HEIGHT = 60, 440
Curve = Sequence[tuple[float, float | None]]


def by_epsilon(curves: Mapping[str, Curve], levels: Mapping[str, float]) -> go.Figure:
    """One line a space of (epsilon, bits); each level is an upright line with its name."""
    figure = _lines(curves)
    figure.update_xaxes(type="log", dtick="D2", title="test error to reach (epsilon)")
    figure.update_yaxes(type="log", title="inductive bias, bits", dtick=1)
    return _marked(figure, levels)


def by_rows(curves: Mapping[str, Curve], space: str) -> go.Figure:
    """One line a level of (training rows, bits) in one space."""
    figure = _lines(curves, marks=True)
    ticks = sorted({int(x) for curve in curves.values() for x, _ in curve})
    figure.update_xaxes(type="log", title="training rows", tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks])
    figure.update_yaxes(type="log", title=f"inductive bias in {escape(space)}, bits", dtick="D2")
    return figure.update_layout(height=HEIGHT)


def law(errors: Mapping[str, Floats], levels: Mapping[str, float]) -> go.Figure:
    """The share of drawn predictors by error, one outline a space, and the levels."""
    figure = go.Figure()
    for number, (name, drawn) in enumerate(errors.items()):
        logs = np.log10(drawn)
        low, high = logs.min(), logs.max()
        if high - low < 1e-3:
            low, high = low - 0.01, high + 0.01
        counts, edges = np.histogram(logs, bins=min(LAW_POINTS, max(8, len(drawn) // 20)), range=(low, high))
        middles = 10 ** ((edges[1:] + edges[:-1]) / 2)
        color = PALETTE[number % len(PALETTE)]
        figure.add_scatter(
            x=middles.tolist(),
            y=(counts / counts.max()).tolist(),
            mode="lines",
            fill="tozeroy",
            name=escape(name),
            line={"color": color, "width": 2, "shape": "hvh"},
            hovertemplate=f"<b>{escape(name)}</b><br>error %{{x:.4g}}<extra></extra>",
        )
    figure.update_xaxes(type="log", dtick="D2", title="test error of a predictor that fits the training rows")
    figure.update_yaxes(title="drawn predictors, by the most frequent", rangemode="tozero")
    figure.update_layout(showlegend=True)
    return _marked(figure, levels)


def _lines(curves: Mapping[str, Curve], *, marks: bool = False) -> go.Figure:
    figure = go.Figure()
    for number, (name, curve) in enumerate(curves.items()):
        seen = [(x, y) for x, y in curve if y is not None and np.isfinite(y) and y >= LEAST]
        figure.add_scatter(
            x=[x for x, _ in seen],
            y=[y for _, y in seen],
            mode="lines+markers" if marks else "lines",
            name=escape(name),
            marker={"size": 8, "symbol": SYMBOLS[number % len(SYMBOLS)]},
            line={"color": PALETTE[number % len(PALETTE)], "width": 2, "dash": DASHES[number // len(PALETTE) % len(DASHES)]},
            hovertemplate=f"<b>{escape(name)}</b><br>%{{x:.4g}}: %{{y:,.4g}} bits<extra></extra>",
        )
    return figure.update_layout(showlegend=True)


def _marked(figure: go.Figure, levels: Mapping[str, float]) -> go.Figure:
    """Upright lines; names stand in steps above the plot, so that neighbours do not cover each other."""
    ordered = sorted(levels.items(), key=lambda item: item[1])
    steps = min(len(ordered), 4)
    for number, (name, epsilon) in enumerate(ordered):
        figure.add_vline(x=epsilon, line={"color": UNTOUCHED, "width": 1, "dash": "dash"})
        place = {"x": float(np.log10(epsilon)), "xref": "x", "y": 1, "yref": "paper", "yshift": 8 + 16 * (number % steps)}
        figure.add_annotation(place | {"text": escape(name), "showarrow": False, "font": {"size": 12}, "xanchor": "left"})
    return figure.update_layout(height=HEIGHT + 16 * steps, margin={"l": 64, "r": 24, "t": 20 + 16 * steps, "b": 56})
