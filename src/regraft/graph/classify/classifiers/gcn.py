"""Graph convolutions over the mean of a node's values."""

from itertools import pairwise
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from regraft.graph.classify.classifier import Classified, NodeClassifier, Nodes, Rows
from regraft.graph.classify.learning import Schedule, learn, smoothing
from regraft.method import Paper


class Gcn(NodeClassifier):
    """The mean of the vectors of a node's values, then layers that each smooth over edges and mix.

    layers : widths of the hidden ones. dim : of a value's vector. dropout : before each layer. rate, decay : of Adam. patience : epochs
    without a better loss. balanced : whether rare classes weigh more.
    """

    paper = Paper("Semi-Supervised Classification with Graph Convolutional Networks", "Kipf, Welling", 2017, arxiv="1609.02907")
    summary = "baseline: mean of a node's values, then graph convolutions"

    layers: tuple[Annotated[int, Ge(1)], ...] = (64,)
    dim: Annotated[int, Ge(1)] = 64
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.5
    rate: Annotated[float, Gt(0)] = 0.01
    decay: Annotated[float, Ge(0)] = 1e-5
    patience: Annotated[int, Ge(1)] = 10
    balanced: bool = True

    def fit(self, nodes: Nodes, train: Rows, validation: Rows, *, epochs: int, seed: int = 0) -> Classified:
        torch.manual_seed(seed)
        model = GcnModel(nodes, self.dim, self.layers, self.dropout)
        return learn(model, nodes, train, validation, Schedule(epochs, self.rate, self.decay, self.patience, self.balanced))


class GcnModel(nn.Module):
    """Scores (n, classes) of all nodes of one graph: relu(A X W) layer after layer (section 2, equation 2)."""

    def __init__(self, nodes: Nodes, dim: int, layers: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.values, self.offsets = torch.from_numpy(nodes.values), torch.from_numpy(nodes.offsets)
        self.edges, self.dropout = smoothing(nodes.graph), nn.Dropout(dropout)
        self.table = nn.EmbeddingBag(nodes.vocabulary, dim, mode="mean", include_last_offset=True)
        nn.init.normal_(self.table.weight, std=0.1)
        widths = [dim, *layers, len(nodes.classes)]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self) -> Tensor:
        rows: Tensor = self.table(self.values, self.offsets)
        for number, layer in enumerate(self.layers):
            rows = self.edges @ layer(self.dropout(torch.relu(rows) if number else rows))
        return rows
