"""A factorization machine over a node's values, without edges."""

from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from regraft.graph.classify.classifier import Classified, NodeClassifier, Nodes, Rows
from regraft.graph.classify.learning import Schedule, learn
from regraft.graph.classify.values import Bags, pairs
from regraft.method import Paper


class Fm(NodeClassifier):
    """A weight a value and class, and products of pairs of values' vectors, weighted by class. Both are means over the values.

    dim : of a value's vector. rate, decay : of Adam. patience : epochs without a better loss. balanced : whether rare classes weigh more.
    """

    paper = Paper("Factorization Machines", "Rendle", 2010, url="https://doi.org/10.1109/ICDM.2010.127")
    summary = "baseline: weights of values and of their pairs, no edges"

    dim: Annotated[int, Ge(1)] = 64
    rate: Annotated[float, Gt(0)] = 0.01
    decay: Annotated[float, Ge(0)] = 1e-5
    patience: Annotated[int, Ge(1)] = 10
    balanced: bool = True

    def fit(self, nodes: Nodes, train: Rows, validation: Rows, *, epochs: int, seed: int = 0) -> Classified:
        torch.manual_seed(seed)
        model = FmModel(nodes, self.dim)
        return learn(model, nodes, train, validation, Schedule(epochs, self.rate, self.decay, self.patience, self.balanced))


class FmModel(nn.Module):
    """Scores (n, classes) of all nodes (equation 1, a set of pair weights a class)."""

    def __init__(self, nodes: Nodes, dim: int) -> None:
        super().__init__()
        classes = len(nodes.classes)
        self.bags = Bags(nodes.offsets, nodes.values)
        self.single = nn.Parameter(torch.zeros(nodes.vocabulary, classes))
        self.table = nn.Parameter(torch.randn(nodes.vocabulary, dim) * 0.1)
        self.head = nn.Linear(dim, classes)

    def forward(self) -> Tensor:
        single = self.bags.sums(self.single) / self.bags.counts.clamp(min=1).unsqueeze(1)
        found: Tensor = single + self.head(pairs(self.bags, self.table, "S"))
        return found
