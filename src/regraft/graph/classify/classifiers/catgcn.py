"""Values of one node act on each other before the graph is asked."""

from dataclasses import asdict, dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Tensor, nn

from regraft.graph.classify.classifier import Classified, NodeClassifier, Nodes, Rows
from regraft.graph.classify.learning import Schedule, learn, perceptron, smoothing
from regraft.graph.classify.values import Bags, Norm, pairs, probed
from regraft.method import Paper


class CatGcn(NodeClassifier):
    """Products of pairs of a node's values (local), a convolution over all of them (global), then smoothing over edges.

    alpha : share of the global part; 0 and 1 leave one part alone. probe : how much of each value's own signal passes the convolution.
    hops : how many times class scores are smoothed. local_norm : what the sum over pairs is divided by: nothing as in the paper, the number
    of values, or that of pairs. local_layers, global_layers : widths of hidden layers after each part. dim : of a value's vector.
    spread : standard deviation of the first vectors (1 in the paper). dropout : of both parts. rate, decay : of Adam. patience : epochs
    without a better loss. balanced : whether rare classes weigh more.
    """

    name = "catgcn"
    paper = Paper("CatGCN: Graph Convolutional Networks with Categorical Node Features", "Chen et al.", 2023, arxiv="2009.05303")
    summary = "pairs of a node's values, a convolution over them, then the graph"

    alpha: Annotated[float, Ge(0), Le(1)] = 0.5
    probe: Annotated[float, Ge(0)] = 20.0
    hops: Annotated[int, Ge(0)] = 1
    local_norm: Norm = "S"
    local_layers: tuple[Annotated[int, Ge(1)], ...] = ()
    global_layers: tuple[Annotated[int, Ge(1)], ...] = ()
    dim: Annotated[int, Ge(1)] = 64
    spread: Annotated[float, Gt(0)] = 0.1
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.5
    rate: Annotated[float, Gt(0)] = 0.01
    decay: Annotated[float, Ge(0)] = 1e-5
    patience: Annotated[int, Ge(1)] = 10
    balanced: bool = True

    def fit(self, nodes: Nodes, train: Rows, validation: Rows, *, epochs: int, seed: int = 0) -> Classified:
        torch.manual_seed(seed)
        settings = asdict(self)
        shape = Shape(**{key: settings[key] for key in Shape.__dataclass_fields__})
        model = CatGcnModel(nodes, shape)
        return learn(model, nodes, train, validation, Schedule(epochs, self.rate, self.decay, self.patience, self.balanced))


@dataclass(frozen=True)
class Shape:
    """What the network is, as the fields of `CatGcn` say."""

    alpha: float = 0.5
    probe: float = 20.0
    hops: int = 1
    local_norm: Norm = "S"
    local_layers: tuple[int, ...] = ()
    global_layers: tuple[int, ...] = ()
    dim: int = 64
    spread: float = 0.1
    dropout: float = 0.5


class CatGcnModel(nn.Module):
    """Scores (n, classes) of all nodes of one graph; `on` moves what was learned to other nodes and edges.

    Source: section 3. A part whose share is 0 is not computed.
    """

    def __init__(self, nodes: Nodes, shape: Shape) -> None:
        super().__init__()
        classes = len(nodes.classes)
        self.shape = shape
        self.table = nn.Parameter(torch.randn(nodes.vocabulary, shape.dim) * shape.spread)
        self.local = perceptron(shape.dim, shape.local_layers, classes, shape.dropout)
        self.mix = nn.Linear(shape.dim, shape.dim)
        nn.init.xavier_uniform_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)
        self.glob = perceptron(shape.dim, shape.global_layers, classes, shape.dropout)
        self.dropout = nn.Dropout(shape.dropout)
        self.on(nodes)

    def on(self, nodes: Nodes) -> "CatGcnModel":
        """Ask of these `nodes` from now on; their values have the ids that were learned."""
        self.bags, self.edges = Bags(nodes.offsets, nodes.values), smoothing(nodes.graph)
        return self

    def forward(self) -> Tensor:
        alpha, scores = self.shape.alpha, torch.zeros(())
        if alpha < 1:
            scores = scores + (1 - alpha) * self.local(pairs(self.bags, self.table, self.shape.local_norm))
        if alpha > 0:
            scores = scores + alpha * self.glob(self._convolved())
        for _ in range(self.shape.hops):
            scores = self.edges @ scores
        return scores

    def _convolved(self) -> Tensor:
        weight = self.mix.weight.T
        rows = probed(self.bags, self.table @ weight, self.shape.probe) + self.mix.bias
        return self.bags.sums_of(self.dropout(torch.relu(rows))) / self.bags.counts.clamp(min=1).unsqueeze(1)
