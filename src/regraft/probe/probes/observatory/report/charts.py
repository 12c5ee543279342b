"""Charts of the eight properties: all encoders side by side, as distributions.

Enters: outcomes by encoder. Leaves: plotly figures; boxes hold quantiles only, so that a page stays small whatever the tables.
"""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from regraft.probe.probes.observatory.properties.base import Found, Outcome
from regraft.report import escape
from regraft.report.figures import PALETTE, SYMBOLS, UNTOUCHED

MOST_POINTS = 400
ROW = 26  # pixels of one box


def colors(encoders: Sequence[str], baseline: str | None) -> dict[str, str]:
    """One an encoder; the baseline is grey."""
    others = [name for name in encoders if name != baseline]
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(others)} | ({baseline: UNTOUCHED} if baseline else {})


def boxes(found: Mapping[str, Found], measure: str, title: str, ideal: float | None, baseline: str | None) -> go.Figure | None:
    """A box a setting and encoder: middle half, median, 5 to 95 %, a dashed line for the mean."""
    shown = {name: [one for one in of.outcomes if one.measure == measure] for name, of in found.items()}
    settings = list(dict.fromkeys(one.setting for outcomes in shown.values() for one in outcomes))
    if not settings:
        return None
    figure, color = go.Figure(), colors(list(found), baseline)
    for name, outcomes in reversed(shown.items()):  # plotly draws from the bottom up
        if outcomes:
            figure.add_trace(_box(name, outcomes, color[name]))
    if ideal is not None:
        figure.add_vline(x=ideal, line={"color": UNTOUCHED, "width": 1, "dash": "dot"})
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=[escape(one) for one in reversed(settings)], automargin=True)
    figure.update_xaxes(title=escape(title))
    drawn = sum(bool(outcomes) for outcomes in shown.values())
    return figure.update_layout(
        height=130 + ROW * len(settings) * max(2, drawn), boxmode="group", boxgroupgap=0.3, legend={"orientation": "h", "y": 1.02,
        "yanchor": "bottom", "traceorder": "reversed"}, margin={"t": 40, "l": 12, "r": 24, "b": 56},
    )  # fmt: skip


def _box(name: str, outcomes: Sequence[Outcome], color: str) -> go.Box:
    def at(quantile: str) -> list[float]:
        return [one.quantiles[quantile] for one in outcomes]

    return go.Box(
        y=[escape(one.setting) for one in outcomes],
        q1=at("0.25"),
        median=at("0.5"),
        q3=at("0.75"),
        lowerfence=at("0.05"),
        upperfence=at("0.95"),
        mean=[one.measurement.value for one in outcomes],
        orientation="h",
        name=escape(name),
        marker={"color": color},
        line={"width": 1.5},
    )


def join_points(found: Mapping[str, Found], setting: str, baseline: str | None) -> go.Figure | None:
    """A point a pair of columns: how much they share, how near they lie."""
    figure, color = go.Figure(), colors(list(found), baseline)
    for number, (name, of) in enumerate(found.items()):
        one = of.get(setting, "Spearman")
        if one is None:
            continue
        pairs = [f"{escape(a)}<br>{escape(b)}" for a, b in zip(one.tables, one.items, strict=True)]
        step = -(-len(pairs) // MOST_POINTS)
        figure.add_scatter(
            x=one.beside["overlap"][::step].tolist(),
            y=one.values[::step].tolist(),
            mode="markers",
            name=f"{escape(name)} ({_rho(one.measurement.value)})",
            marker={"color": color[name], "symbol": SYMBOLS[number % len(SYMBOLS)], "size": 7, "opacity": 0.7},
            text=pairs[::step],
            hovertemplate="%{text}<br>shared %{x:.2f}, cosine %{y:.3f}<extra></extra>",
        )
    figure.update_xaxes(title=f"values shared ({setting})", range=[-0.03, 1.03])
    figure.update_yaxes(title="cosine of the two columns")
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}
    return figure.update_layout(height=420, legend=legend, margin={"t": 40, "b": 56}) if figure.data else None


def _rho(value: float) -> str:
    return f"ρ = {value:.2f}" if value == value else "too few pairs for ρ"


def stability_map(pairs: Mapping[tuple[str, str], Found], encoders: Sequence[str], setting: str) -> go.Figure | None:
    """Encoders by encoders: the share of neighbours in common."""
    values = {pair: one.measurement.value for pair, of in pairs.items() if (one := of.get(setting, "overlap")) is not None}
    if not values:
        return None
    names = [name for name in encoders if any(name in pair for pair in values)]
    grid = [[1.0 if a == b else values.get((a, b), values.get((b, a))) for b in names] for a in names]
    shown = [[f"{value:.2f}" if value is not None else "" for value in row] for row in grid]
    labels = [escape(name) for name in names]
    figure = go.Figure(
        go.Heatmap(
            z=grid, x=labels, y=labels, zmin=0, zmax=1, colorscale=[[0, "#eef3f8"], [1, PALETTE[0]]], text=shown, texttemplate="%{text}",
            textfont={"color": "#101418"}, hovertemplate="%{y}, %{x}: %{text}<extra></extra>", xgap=3, ygap=3,
            colorbar={"title": {"text": "shared"}},
        )
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(automargin=True)
    return figure.update_layout(height=160 + 56 * len(names), margin={"t": 20, "l": 12, "r": 24, "b": 40})
