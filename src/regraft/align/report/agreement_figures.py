"""Pictures of agreement and of stitching."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from regraft.align.agreement import Agreement
from regraft.align.stitching import Stitching
from regraft.report import escape
from regraft.report.figures import MARGIN, SYMBOLS, line_colors


def agreement_points(found: Mapping[str, Sequence[Agreement]], reference: str, *, height: int = 360) -> go.Figure:
    """One row a measure, one mark a way with its 95 % interval, to be read from left (no agreement) to right; `reference` is grey."""
    figure = go.Figure()
    colors = line_colors(list(found), reference)
    names = list(dict.fromkeys(one.name for measures in found.values() for one in measures))
    for index, (way, measures) in enumerate(found.items()):
        shift = 0.22 * (index - (len(found) - 1) / 2)
        figure.add_scatter(
            x=[one.value for one in measures],
            y=[names.index(one.name) + shift for one in measures],
            error_x={
                "type": "data",
                "array": [one.high - one.value for one in measures],
                "arrayminus": [one.value - one.low for one in measures],
            },
            mode="markers",
            name=escape(way),
            marker={"size": 10, "color": colors[way], "symbol": SYMBOLS[index % len(SYMBOLS)]},
            customdata=[[one.low, one.high] for one in measures],
            hovertemplate=f"<b>{escape(way)}</b><br>%{{x:.3f}} [%{{customdata[0]:.3f}}, %{{customdata[1]:.3f}}]<extra></extra>",
        )
    ticks = {"tickvals": list(range(len(names))), "ticktext": [escape(name) for name in names], "autorange": "reversed"}
    figure.update_xaxes(title="agreement (95 % interval)")
    return figure.update_layout(height=height, yaxis=ticks, margin=MARGIN | {"l": 96}, legend={"orientation": "h", "y": 1.12})


def stitching_maps(found: Stitching, *, height: int = 420) -> go.Figure:
    """One map a way: encoders downwards, heads across, accuracy as colour and as a number; what can't be computed is left blank."""
    from plotly.subplots import make_subplots

    encoders = list(dict.fromkeys(cell.encoder for cell in found.cells))
    heads = list(dict.fromkeys(cell.head for cell in found.cells))
    figure = make_subplots(rows=1, cols=len(found.ways), subplot_titles=[escape(way) for way in found.ways], shared_yaxes=True)
    for column, way in enumerate(found.ways, 1):
        values = {(cell.encoder, cell.head): cell.accuracy for cell in found.cells if cell.way == way}
        table = [[values.get((one, head)) for head in heads] for one in encoders]
        figure.add_heatmap(
            z=table,
            x=[escape(head) for head in heads],
            y=[escape(one) for one in encoders],
            text=[["" if value is None else f"{value:.2f}" for value in row] for row in table],
            texttemplate="%{text}",
            zmin=0,
            zmax=1,
            colorscale="Blues",
            showscale=column == len(found.ways),
            hovertemplate="encoder %{y}, head %{x}: %{z:.3f}<extra></extra>",
            row=1,
            col=column,
        )
    figure.update_xaxes(title="head trained on")
    figure.update_yaxes(autorange="reversed")
    figure.update_yaxes(title="vectors of", col=1)
    return figure.update_layout(height=height, margin={"l": 96, "t": 40, "b": 64})
