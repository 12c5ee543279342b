"""Simple graph convolution over the mean of a node's values."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from regraft.graph.classify.classifier import Classified, NodeClassifier, Nodes, Rows
from regraft.graph.classify.learning import Schedule, learn, smoothing
from regraft.method import Paper


class Sgc(NodeClassifier):
    """The mean of the vectors of a node's values, classified, and smoothed over edges.

    hops : how many times it is smoothed. dim : of a value's vector. rate, decay : of Adam. patience : epochs without a better loss.
    balanced : whether rare classes weigh more.
    """

    paper = Paper("Simplifying Graph Convolutional Networks", "Wu et al.", 2019, arxiv="1902.07153")
    summary = "baseline: mean of a node's values, smoothed over edges, one linear layer"

    hops: Annotated[int, Ge(0)] = 2
    dim: Annotated[int, Ge(1)] = 64
    rate: Annotated[float, Gt(0)] = 0.05
    decay: Annotated[float, Ge(0)] = 1e-5
    patience: Annotated[int, Ge(1)] = 10
    balanced: bool = True

    def fit(self, nodes: Nodes, train: Rows, validation: Rows, *, epochs: int, seed: int = 0) -> Classified:
        torch.manual_seed(seed)
        model = SgcModel(nodes, self.dim, self.hops)
        how = Schedule(epochs, self.rate, self.decay, self.patience, self.balanced)
        return learn(model, nodes, train, validation, how)


class SgcModel(nn.Module):
    """Scores (n, classes) of all nodes of one graph."""

    def __init__(self, nodes: Nodes, dim: int, hops: int) -> None:
        super().__init__()
        self.values, self.offsets = torch.from_numpy(nodes.values), torch.from_numpy(nodes.offsets)
        self.edges, self.hops = smoothing(nodes.graph), hops
        self.table = nn.EmbeddingBag(nodes.vocabulary, dim, mode="mean", include_last_offset=True)
        nn.init.normal_(self.table.weight, std=0.1)
        self.head = nn.Linear(dim, len(nodes.classes))

    def forward(self) -> Tensor:
        scores: Tensor = self.head(self.table(self.values, self.offsets))
        for _ in range(self.hops):  # linear, so smoothing the classes is smoothing the vectors
            scores = self.edges @ scores
        return scores
