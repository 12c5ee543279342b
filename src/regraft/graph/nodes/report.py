"""The page of node vectors: what labels and held-out edges they tell, beside degrees, and a map of the nodes for each kind of vector."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from regraft.graph.edges import Graph
from regraft.graph.nodes.embedder import Kinds
from regraft.graph.nodes.links import Scores, rows_of
from regraft.report import Report, escape
from regraft.report.figures import DASHES, PALETTE, SYMBOLS, line_colors

MOST, NEIGHBOURS = 3000, 30  # nodes that a map by t-SNE shows
TOLD = {"identity": "Roles: near nodes have like surroundings", "position": "Places: near nodes are near in the graph"}


def report_of(
    title: str,
    graph: Graph,
    kinds: Kinds,
    rows: Sequence[Mapping[str, Any]],
    classes: Sequence[str],
    labels: npt.NDArray[np.int64] | None,
    share: float,
    links: Mapping[str, Scores],
) -> Report:
    """The page.

    rows : what each kind of vector tells of labels. share : of nodes that are in the most frequent class. links : scores of pairs, by arm.
    """
    edges = graph.adjacency.nnz // 2
    lead = f"{graph.size:,} nodes and {edges:,} edges, as {' and '.join(f'{v.shape[1]} numbers of {kind}' for kind, v in kinds.items())}."
    if rows:
        best = max(rows, key=lambda row: row["accuracy"])
        lead += f" By {best['vectors']}, {best['accuracy']:.1%} of test nodes are named rightly after a fifth were learned from; "
        lead += f"the most frequent class is {share:.1%}."
    held = rows_of(links)
    if held:
        count, best = len(next(iter(links.values())).edges), max(held, key=lambda row: row["roc_auc"])
        lead += f" Of {count:,} edges that were held out and as many pairs that are none, {best['scored_by']} gives the edge the greater "
        lead += f"score {best['roc_auc']:.1%} of the time."
    report = Report(title, lead)
    if held:
        report.add_figure("Held-out edges", roc(links), "How many edges are found while how many other pairs are taken for edges.")
    if rows:
        how = "Logistic regression on 20 % of the nodes, judged on 70 %; 10 splits, the same for all; 95 % interval over nodes and splits."
        report.add_table("What vectors tell of labels", rows, how, best={"accuracy": "high"})
    if held:
        how = "Pairs scored by logistic regression on products of both vectors, learned from the edges left; or by neighbours alone. 95 % "
        how += "interval over pairs."
        report.add_table("What vectors tell of held-out edges", held, how, best={"roc_auc": "high", "average_precision": "high"})
    for kind, vectors in kinds.items():
        report.add_figure(TOLD[kind], map_of(vectors, graph, classes, labels), _caption(graph.size))
    return report


def roc(links: Mapping[str, Scores]) -> go.Figure:
    """One line an arm, at the same 201 shares of pairs that are no edges."""
    figure, colors, across = go.Figure(), line_colors(list(links)), np.linspace(0, 1, 201)
    for number, (name, scores) in enumerate(links.items()):
        above = np.quantile(scores.others, 1 - across)  # a threshold that this share of the others reaches
        found = (scores.edges[None, :] >= above[:, None]).mean(1)
        line = {"color": colors[name], "dash": DASHES[number % len(DASHES)]}
        figure.add_scatter(x=across, y=found, mode="lines", name=escape(name), line=line)
    figure.update_xaxes(title="share of other pairs", range=[0, 1])
    figure.update_yaxes(title="share of held-out edges", range=[0, 1.02])
    return figure.update_layout(height=460)


def map_of(vectors: npt.NDArray[np.float32], graph: Graph, classes: Sequence[str], labels: npt.NDArray[np.int64] | None) -> go.Figure:
    """Nodes in two dimensions, colored by class where classes are known, else by quarters of their degrees."""
    places, shown = flat(vectors)
    groups, number = (classes, labels) if labels is not None else quarters(graph.degrees)
    figure = go.Figure()
    for color, name in enumerate([*groups, "unknown"]):
        rows = number[shown] == (color if color < len(groups) else -1)
        if rows.any():
            text = [escape(graph.names[row]) for row in shown[rows]]
            marker = {"color": PALETTE[color % len(PALETTE)], "size": 5, "symbol": SYMBOLS[color // len(PALETTE) % len(SYMBOLS)]}
            figure.add_scatter(x=places[rows, 0], y=places[rows, 1], mode="markers", text=text, name=escape(name), marker=marker)
    figure.update_xaxes(visible=False, tickvals=[])
    figure.update_yaxes(visible=False, tickvals=[])
    return figure.update_layout(height=520)


def quarters(degrees: npt.NDArray[np.int64]) -> tuple[list[str], npt.NDArray[np.int64]]:
    """Up to four groups of like degree, named by their bounds, and the group of each node."""
    bounds = np.unique(np.quantile(degrees, [0.25, 0.5, 0.75], method="higher"))
    group = np.digitize(degrees, bounds)
    there, group = np.unique(group, return_inverse=True)
    ends = [(degrees[group == one].min(), degrees[group == one].max()) for one in range(len(there))]
    return [f"degree {low}" if low == high else f"degree {low} to {high}" for low, high in ends], group


def flat(vectors: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """(shown, 2) places of at most `MOST` nodes, drawn, and which they are: by t-SNE, by two principal components where there are few."""
    rows = np.sort(np.random.default_rng(0).permutation(len(vectors))[:MOST])
    taken = vectors[rows].astype(np.float64)
    taken = taken - taken.mean(0)
    if taken.shape[1] < 2:
        return np.column_stack([taken, np.zeros(len(taken))]), rows
    if len(taken) <= 3 * NEIGHBOURS:
        return taken @ np.linalg.svd(taken, full_matrices=False)[2][:2].T, rows
    from openTSNE import TSNE

    return np.asarray(TSNE(perplexity=NEIGHBOURS, random_state=0, n_jobs=1).fit(taken)), rows


def _caption(size: int) -> str:
    how = "t-SNE; distances between groups mean little" if size > 3 * NEIGHBOURS else "two principal components"
    return f"{MOST:,} drawn of {size:,} nodes, {how}." if size > MOST else f"All nodes, {how}."
