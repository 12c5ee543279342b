"""The page of classified nodes: the answer in a sentence, the distances to simple graph convolution, the curves of training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from regraft.comparison import Metric, Outcome, tables_of
from regraft.graph.classify.classifier import Nodes
from regraft.report import Report
from regraft.report.figures import dots, training_curves

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
        "How many nodes each names rightly",
        dots(scored, "accuracy"),
        "The line is simple graph convolution. The axis begins near the values.",
    )
    curves = {name: one.curve for name, one in outcomes.items() if len(one.curve) > 1}
    if curves:
        report.add_figure(
            "How they learn",
            training_curves(curves, x_title="epochs", y_title="nats"),
            "First seed, loss on the nodes that tell when to stop.",
        )
    caption = "accuracy and macro F1 on test nodes, means over seeds; behind_first with half its 95 % interval over nodes and seeds."
    for table in tables_of(rows, outcomes, ACCURACY, caption):
        report.add_table(**table)
    return report
