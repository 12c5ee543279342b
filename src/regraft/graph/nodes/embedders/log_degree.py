"""The bar that vectors of roles have to pass: how many neighbours a node has, and its neighbours have."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from torch import Tensor

from regraft.graph.edges import Graph
from regraft.graph.nodes.embedder import Fitted, Kinds, NodeEmbedder
from regraft.method import Paper


@dataclass(frozen=True, eq=False)
class Degrees(Fitted):
    """Nothing is learned: the same numbers of any graph."""

    method: "LogDegree"

    def transform(self, graph: Graph) -> Kinds:
        found = [np.log1p(graph.degrees.astype(np.float64))]
        for _ in range(self.method.hops):
            summed = graph.adjacency.astype(np.float64) @ found[-1]
            weight = graph.adjacency.sum(1)
            found.append(np.where(weight > 0, summed / np.where(weight > 0, weight, 1), found[-1]))
        return {"identity": np.stack(found, 1).astype(np.float32)}


class LogDegree(NodeEmbedder):
    """Logarithm of the degree, and its mean over random walks of 1 to `hops` steps.

    hops : how far the walks go; 0 keeps the degree alone.
    """

    kinds = ("identity",)
    inductive = True
    name = "log-degree"
    paper = Paper("Collective dynamics of small-world networks", "Watts, Strogatz", 1998, url="https://doi.org/10.1038/30918")
    summary = "baseline: log of a node's degree, and of its neighbours' on average"

    hops: Annotated[int, Ge(0)] = 0

    def fit(self, graph: Graph, seed: int = 0) -> Degrees:
        return Degrees(self, seed)

    def restored(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], seed: int) -> Degrees:
        return Degrees(self, seed)
