"""Positions by factors of what walks would count, in closed form."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge
from scipy.sparse.linalg import svds
from torch import Tensor

from regraft.errors import InputError
from regraft.graph.edges import Graph
from regraft.graph.nodes.embedder import NodeEmbedder
from regraft.graph.nodes.kept import OneGraph
from regraft.method import Paper

MOST = 20_000  # nodes: the matrix is dense


class NetMf(NodeEmbedder):
    """Singular vectors of the logarithm of shifted pointwise mutual information of nodes within a window of a walk.

    dim : of a vector. window : steps. negatives : of the skip-gram that it equals.
    """

    kinds = ("position",)
    inductive = False
    name = "netmf"
    paper = Paper(
        "Network Embedding as Matrix Factorization: Unifying DeepWalk, LINE, PTE, and node2vec", "Qiu et al.", 2018, arxiv="1710.02971"
    )
    summary = "baseline: DeepWalk's matrix in closed form, factored"

    dim: Annotated[int, Ge(1)] = 64
    window: Annotated[int, Ge(1)] = 10
    negatives: Annotated[int, Ge(1)] = 1

    def fit(self, graph: Graph, seed: int = 0) -> OneGraph:
        if graph.size > MOST:
            raise InputError(f"netmf holds a dense matrix of {graph.size:,} x {graph.size:,} nodes: choose node2vec or irwe over {MOST:,}")
        if self.dim >= graph.size:
            raise InputError(f"netmf: dim={self.dim} of {graph.size} nodes: choose fewer")
        matrix = np.log(np.maximum(mutual(graph, self.window) / self.negatives, 1))
        left, values, _ = svds(matrix, k=self.dim, v0=np.random.default_rng(seed).standard_normal(graph.size))
        order = np.argsort(-values)
        return OneGraph(self, seed, graph.names, (left[:, order] * np.sqrt(values[order])).astype(np.float32))

    def restored(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], seed: int) -> OneGraph:
        return OneGraph(self, seed, tuple(facts["names"]), tensors["vectors"].numpy())


def mutual(graph: Graph, window: int) -> np.ndarray[Any, Any]:
    """(n, n) volume / window x sum over steps of P^r D^-1 (equation 3); rows and columns of nodes without an edge are 0."""
    degree = np.asarray(graph.adjacency.sum(1), dtype=np.float64)
    inverse = np.where(degree > 0, 1 / np.where(degree > 0, degree, 1), 0)
    step = graph.adjacency.astype(np.float64).multiply(inverse[:, None]).tocsr()
    power = np.eye(graph.size)
    total = np.zeros((graph.size, graph.size))
    for _ in range(window):
        power = step @ power
        total += power
    return np.asarray(total * inverse[None, :] * degree.sum() / window)
