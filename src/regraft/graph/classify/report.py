"""The page of classified nodes: the answer in a sentence, the distances to simple graph convolution, the curves of training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from regraft.comparison import Metric, Outcome, tables_of
from regraft.graph.classify.classifier import Nodes
from regraft.report import Report, escape
from regraft.report.figures import PALETTE, line_colors

ACCURACY = Metric("accuracy", "high", amounts="right", sizes="nodes")


def report_of(
    nodes: Nodes,
    notes: Sequence[str],
    sizes: tuple[int, ...],
    seeds: int,
    rows: list[dict[str, Any]],
    outcomes: Mapping[str, Outcome],
) -> Report:
    """The page. `sizes` : how many nodes are trained on, stopped by, and judged on."""
    scored = [row for row in rows if row["accuracy"] is not None]
    best = max(scored, key=lambda row: row["accuracy"])
    known = np.bincount(nodes.labels[nodes.labels >= 0], minlength=len(nodes.classes))
    frequent = (
        f"the most frequent class, {nodes.classes[int(known.argmax())]}, is {known.max() / known.sum():.1%} of those that are labelled"
    )
    lead = f"{best['method']} names {best['accuracy']:.1%} of {sizes[2]:,} test nodes rightly, mean of {seeds} seed(s); {frequent}. "
    lead += f"{sizes[0]:,} nodes were learned from, and {sizes[1]:,} told when to stop. " + " ".join(f"{note}." for note in notes)
    report = Report("Classes of nodes", lead.strip())
    report.add_figure(
        "How many nodes each names rightly", dots(scored), "The line is simple graph convolution. The axis begins near the values."
    )
    curves = {name: one.curve for name, one in outcomes.items() if len(one.curve) > 1}
    if curves:
        report.add_figure("How they learn", curves_figure(curves), "First seed, loss on the nodes that tell when to stop.")
    caption = "accuracy and macro F1 on test nodes, means over seeds; behind_first with half its 95 % interval over nodes and seeds."
    for table in tables_of(rows, outcomes, ACCURACY, caption):
        report.add_table(**table)
    return report


def dots(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """One mark a method, the first row's value as a line."""
    figure = go.Figure()
    names = [escape(row["method"]) for row in rows]
    figure.add_scatter(x=[row["accuracy"] for row in rows], y=names, mode="markers", marker={"size": 12, "color": PALETTE[0]})
    figure.add_vline(x=rows[0]["accuracy"], line={"dash": "dot"})
    figure.update_xaxes(title="accuracy")
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure.update_layout(height=140 + 36 * len(rows), showlegend=False)


def curves_figure(curves: Mapping[str, Sequence[tuple[float, float]]]) -> go.Figure:
    """One line a method."""
    figure, colors = go.Figure(), line_colors(list(curves))
    for name, curve in curves.items():
        at, value = zip(*curve, strict=True)
        figure.add_scatter(x=at, y=value, mode="lines", name=escape(name), line={"color": colors[name]})
    figure.update_xaxes(title="epochs")
    figure.update_yaxes(title="nats")
    return figure.update_layout(height=420)
