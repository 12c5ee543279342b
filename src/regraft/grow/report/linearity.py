"""The page of the diagnostic: does TLEG's premise hold in a checkpoint?"""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from regraft.grow.report.growth import layer_axis
from regraft.report import Report

DASHES = {"attn": "solid", "mlp": "dash", "norm": "dot"}


def linearity_report(name: str, found: Any) -> Report:
    """Lead, the picture of first components by place, and the table. `found` is a `Linearity`."""
    holds = found.holding()
    answer = "holds" if holds >= 0.5 else "holds in part" if holds >= 0.01 else "does not hold"
    lead = (
        f"{name}: TLEG's premise {answer}. Lines explain {found.linear():.0%} of what tells its {found.depth} layers apart "
        f"({found.by_chance:.0%} by chance); the first component follows the place in {holds:.0%} of the parameters."
    )
    report = Report("Do layers lie on a line?", lead)
    report.add_figure(
        "First principal component of each tensor, by layer",
        component_figure(found),
        "Of deviation 1 each. On a straight rising line the premise would hold.",
    )
    rows = [line.row() for line in sorted(found.lines, key=lambda line: -line.parameters)]
    report.add_table(
        "Tensors of a layer",
        rows,
        "linear_share: of the variance across layers, what a line in the layer's number explains. follows_place: absolute correlation of "
        "the first component with it. p: share of random orders of the layers that a line explains as well.",
        best={"linear_share": "high", "follows_place": "high"},
    )
    return report


def component_figure(found: Any) -> go.Figure:
    figure = go.Figure()
    for line in found.lines:
        values = np.asarray(line.component)
        deviation = float(values.std())
        if deviation:
            figure.add_trace(
                go.Scatter(
                    x=list(range(len(values))),
                    y=(values / deviation).tolist(),
                    name=line.tensor,
                    mode="lines+markers",
                    line={"dash": DASHES[line.kind]},
                )
            )
    figure.update_layout(
        xaxis={"title": {"text": "layer"}, **layer_axis(found.depth)}, yaxis={"title": {"text": "first component"}}, height=440
    )
    return figure
