"""The page of node vectors: what labels they tell, beside degrees, and a map of the nodes for each kind of vector."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from regraft.graph.edges import Graph
from regraft.graph.nodes.embedder import Kinds
from regraft.report import Report, escape
from regraft.report.figures import PALETTE

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
) -> Report:
    """The page. `rows` : what each kind of vector tells of labels; `share` : nodes in the most frequent class."""
    edges = graph.adjacency.nnz // 2
    lead = f"{graph.size:,} nodes and {edges:,} edges, as {' and '.join(f'{v.shape[1]} numbers of {kind}' for kind, v in kinds.items())}."
    if rows:
        best = max(rows, key=lambda row: row["accuracy"])
        lead += f" By {best['vectors']}, {best['accuracy']:.1%} of test nodes are named rightly after a fifth were learned from; "
        lead += f"the most frequent class is {share:.1%}."
    report = Report(title, lead)
    if rows:
        how = "Logistic regression on 20 % of the nodes, judged on 70 %; 10 splits, the same for all; 95 % interval over nodes and splits."
        report.add_table("What vectors tell of labels", rows, how, best={"accuracy": "high"})
    for kind, vectors in kinds.items():
        report.add_figure(TOLD[kind], map_of(vectors, graph, classes, labels), _caption(graph.size))
    return report


def map_of(vectors: npt.NDArray[np.float32], graph: Graph, classes: Sequence[str], labels: npt.NDArray[np.int64] | None) -> go.Figure:
    """Nodes in two dimensions, colored by class where classes are known, else by the logarithm of their degree."""
    places, shown = flat(vectors)
    figure = go.Figure()
    names = [escape(graph.names[row]) for row in shown]
    if labels is None:
        marker = {"color": np.log1p(graph.degrees[shown]), "colorscale": "Viridis", "size": 5, "colorbar": {"title": "log degree"}}
        figure.add_scattergl(x=places[:, 0], y=places[:, 1], mode="markers", text=names, marker=marker)
    else:
        for number, name in enumerate([*classes, "unknown"]):
            rows = labels[shown] == (number if number < len(classes) else -1)
            if rows.any():
                color = PALETTE[number % len(PALETTE)]
                text = [one for one, kept in zip(names, rows, strict=True) if kept]
                figure.add_scattergl(
                    x=places[rows, 0], y=places[rows, 1], mode="markers", text=text, name=escape(name), marker={"color": color, "size": 5}
                )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return figure.update_layout(height=520)


def flat(vectors: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """(shown, 2) places of at most `MOST` nodes, drawn, and which they are: by t-SNE, by two principal components where there are few."""
    rows = np.sort(np.random.default_rng(0).permutation(len(vectors))[:MOST])
    taken = vectors[rows].astype(np.float64)
    taken = taken - taken.mean(0)
    if taken.shape[1] < 2:
        return np.column_stack([taken, np.zeros(len(taken))]), rows
    if len(taken) <= 3 * NEIGHBOURS:
        return taken @ np.linalg.svd(taken, full_matrices=False)[2][:2].T, rows
    from sklearn.manifold import TSNE

    return np.asarray(TSNE(init="pca", perplexity=NEIGHBOURS, max_iter=500, random_state=0).fit_transform(taken)), rows


def _caption(size: int) -> str:
    how = "t-SNE; distances between groups mean little" if size > 3 * NEIGHBOURS else "two principal components"
    return f"{MOST:,} drawn of {size:,} nodes, {how}." if size > MOST else f"All nodes, {how}."
