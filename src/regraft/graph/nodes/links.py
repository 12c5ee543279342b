"""Held-out edges: some are put aside before vectors are learned, and then told from pairs of nodes that are no edge.

Enters: a graph, a share, vectors by kind. Leaves: the graph without those edges; for each kind of vector, and for two counts of neighbours
that need none, how likely each pair seems to be an edge.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, triu
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.stats import rankdata

from regraft.errors import InputError, ParameterError
from regraft.graph.edges import Graph, Rows
from regraft.graph.nodes.embedder import Kinds

MOST = 50_000  # pairs of each sort that scores are learned from
BLOCK = 20_000  # pairs whose neighbours are looked at once
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class HeldOut:
    """`graph` without the edges `pairs` (m, 2), and as many `others` that are no edges of the whole graph.

    What tells them apart is learned from edges that were left, `known` (k, 2), and as many pairs that are no edges, `drawn`.
    """

    graph: Graph
    pairs: Rows
    others: Rows
    known: Rows
    drawn: Rows


@dataclass(frozen=True, eq=False)
class Scores:
    """Greater is likelier: of the held-out edges, (m,), and of pairs that are none, (m,)."""

    edges: Floats
    others: Floats

    @property
    def auc(self) -> tuple[float, float, float]:
        """The chance that an edge has the greater score (ties count half), and its 95 % interval (DeLong et al. 1988)."""
        ranks = rankdata(np.concatenate([self.edges, self.others]))
        m, n = len(self.edges), len(self.others)
        above = (ranks[:m] - rankdata(self.edges)) / n
        below = 1 - (ranks[m:] - rankdata(self.others)) / m
        half = 1.96 * float(np.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n))
        value = float(above.mean())
        return value, max(0.0, value - half), min(1.0, value + half)


def put_aside(graph: Graph, share: float, seed: int = 0) -> HeldOut:
    """`share` of the edges, drawn; a random spanning forest stays, so that what was connected is still.

    Raises `ParameterError`: `share` not between 0 and 1; `InputError`: fewer than two edges, or too many for what a forest leaves, or more
    than there are pairs without an edge.
    """
    if not 0 < share < 1:
        raise ParameterError(f"held out: {share:g} is no share between 0 and 1")
    draw = np.random.default_rng(seed)
    edges = triu(graph.adjacency, format="coo")
    wanted = round(share * edges.nnz)
    weights = coo_array((draw.random(edges.nnz) + 1, (edges.row, edges.col)), shape=edges.shape)
    forest = minimum_spanning_tree(weights.tocsr()).tocoo()
    lows, highs = np.minimum(forest.row, forest.col), np.maximum(forest.row, forest.col)
    spare = np.flatnonzero(~np.isin(_codes(edges.row, edges.col, graph.size), _codes(lows, highs, graph.size)))
    if not 2 <= wanted <= len(spare):
        raise InputError(
            f"{wanted:,} of {edges.nnz:,} edges cannot be held out: at least 2, and {len(spare):,} can go without cutting the graph apart"
        )
    gone = draw.permutation(spare)[:wanted]
    stays = np.ones(edges.nnz, dtype=bool)
    stays[gone] = False
    kept = coo_array((edges.data[stays], (edges.row[stays], edges.col[stays])), shape=edges.shape).tocsr()
    pairs = np.stack([edges.row, edges.col], 1).astype(np.int64)
    known = draw.permutation(pairs[stays])[:MOST]
    drawn = not_edges(graph, wanted + len(known), draw)
    return HeldOut(Graph((kept + kept.T).tocsr(), graph.names), pairs[gone], drawn[:wanted], known, drawn[wanted:])


def not_edges(graph: Graph, count: int, draw: np.random.Generator) -> Rows:
    """(count, 2) different pairs of nodes without an edge between them. Raises `InputError`: there are not so many."""
    size, edges = graph.size, triu(graph.adjacency, format="coo")
    if size * (size - 1) // 2 - edges.nnz < count:
        raise InputError(f"of {size:,} nodes {edges.nnz:,} pairs are edges, too many to hold some out and to draw {count:,} that are none")
    taken = _codes(edges.row, edges.col, size)
    found = np.empty(0, dtype=np.int64)
    while len(found) < count:
        ends = np.sort(draw.integers(0, size, (2 * count, 2)), axis=1)
        codes = _codes(ends[:, 0], ends[:, 1], size)[ends[:, 0] < ends[:, 1]]
        codes = codes[~np.isin(codes, taken)]
        found = np.concatenate([found, codes])
        found = found[np.sort(np.unique(found, return_index=True)[1])]
    return np.stack(np.divmod(found[:count], size), 1)


def scored(held: HeldOut, kinds: Kinds) -> dict[str, Scores]:
    """By each of `kinds`, by all of them, and by neighbours alone.

    Vectors: logistic regression on the products of two nodes' numbers (node2vec, section 4.4), learned from edges that were left and drawn
    pairs. Neighbours: the rare ones that both have (Adamic, Adar 2003), and the product of both degrees.
    """
    arms = dict(kinds)
    if len(kinds) > 1:
        arms["identity and position"] = np.concatenate(list(kinds.values()), 1)
    found = {name: _by_products(vectors, held) for name, vectors in arms.items()}
    degrees = np.log1p(held.graph.degrees)
    found["rare neighbours in common"] = Scores(shared(held.graph, held.pairs), shared(held.graph, held.others))
    found["product of degrees"] = Scores(degrees[held.pairs].sum(1), degrees[held.others].sum(1))
    return found


def shared(graph: Graph, pairs: Rows) -> Floats:
    """(m,) sum over the neighbours that both nodes of a pair have of 1 / log(degree)."""
    weights = 1 / np.log(np.maximum(graph.degrees, 2))
    near = graph.adjacency.astype(bool).astype(np.float64)
    parts = [
        near[block[:, 0]].multiply(near[block[:, 1]]) @ weights for block in np.split(pairs, range(BLOCK, len(pairs), BLOCK)) if len(block)
    ]
    return np.concatenate(parts)


def rows_of(found: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """A row an arm: area under the ROC curve with its interval, average precision where half of the pairs are edges."""
    from sklearn.metrics import average_precision_score

    rows = []
    for name, scores in found.items():
        area, low, high = scores.auc
        truth = np.repeat([1, 0], [len(scores.edges), len(scores.others)])
        precision = float(average_precision_score(truth, np.concatenate([scores.edges, scores.others])))
        rows.append({"scored_by": name, "roc_auc": area, "low": low, "high": high, "average_precision": precision})
    return rows


def _by_products(vectors: npt.NDArray[np.float32], held: HeldOut) -> Scores:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def products(pairs: Rows) -> npt.NDArray[np.float32]:
        return vectors[pairs[:, 0]] * vectors[pairs[:, 1]]

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(np.concatenate([products(held.known), products(held.drawn)]), np.repeat([1, 0], [len(held.known), len(held.drawn)]))
    return Scores(model.decision_function(products(held.pairs)), model.decision_function(products(held.others)))


def _codes(low: Any, high: Any, size: int) -> Rows:
    return np.asarray(low, dtype=np.int64) * size + np.asarray(high, dtype=np.int64)
