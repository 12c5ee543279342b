"""Positions by skip-gram over biased walks, trained by gensim."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt
from torch import Tensor

from regraft.graph.edges import Graph
from regraft.graph.nodes.embedder import NodeEmbedder
from regraft.graph.nodes.kept import OneGraph
from regraft.graph.walks import walk
from regraft.method import Paper


class Node2Vec(NodeEmbedder):
    """Nodes are words, walks are sentences.

    p, q : going back is 1 / p, going away 1 / q times as likely. walks, length : of each node. window, negatives, epochs : of skip-gram.
    dim : of a vector.
    """

    kinds = ("position",)
    inductive = False
    name = "node2vec"
    paper = Paper("node2vec: Scalable Feature Learning for Networks", "Grover, Leskovec", 2016, arxiv="1607.00653")
    summary = "baseline: skip-gram over biased walks"

    p: Annotated[float, Gt(0)] = 1.0
    q: Annotated[float, Gt(0)] = 1.0
    walks: Annotated[int, Ge(1)] = 10
    length: Annotated[int, Ge(1)] = 40
    window: Annotated[int, Ge(1)] = 10
    negatives: Annotated[int, Ge(1)] = 5
    epochs: Annotated[int, Ge(1)] = 1
    dim: Annotated[int, Ge(1)] = 64

    def fit(self, graph: Graph, seed: int = 0) -> OneGraph:
        from gensim.models import Word2Vec

        starts = np.random.default_rng(seed).permutation(np.repeat(np.arange(graph.size), self.walks))
        sentences = walk(graph, starts, self.length, seed=seed, p=self.p, q=self.q).astype(str).tolist()
        shape = {"vector_size": self.dim, "window": self.window, "negative": self.negatives, "epochs": self.epochs}
        model = Word2Vec(sentences, sg=1, min_count=1, workers=1, seed=seed, **shape)
        return OneGraph(self, seed, graph.names, np.stack([model.wv[str(number)] for number in range(graph.size)]))

    def restored(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], seed: int) -> OneGraph:
        return OneGraph(self, seed, tuple(facts["names"]), tensors["vectors"].numpy())
