"""The contract of a node classifier: values of each node, edges, labels of some nodes; leaves what every node's class may be."""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from regraft.graph.edges import Graph
from regraft.method import Method

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Nodes:
    """What is known of the nodes of a graph.

    Attributes
    ----------
    graph : of n nodes. offsets, values : the values of node u are `values[offsets[u] : offsets[u + 1]]`, ids below `vocabulary`; a node may
        have none. labels : (n,) class of each node, -1 where it is not known. classes : their names.
    """

    graph: Graph
    offsets: Rows
    values: Rows
    vocabulary: int
    labels: Rows
    classes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Classified:
    """What came of it.

    Attributes
    ----------
    scores : (n, classes) log-probabilities of every node. curve : (epoch, loss on validation nodes). model : the trained module.
    facts : what else a comparison shows.
    """

    scores: npt.NDArray[np.float32]
    curve: list[tuple[float, float]]
    model: Any
    facts: dict[str, float] = field(default_factory=dict)


class NodeClassifier(Method):
    """Base of every node classifier.

    Returns, by `fit`, scores of all nodes.
    """

    family = "node-classifier"

    @abstractmethod
    def fit(self, nodes: Nodes, train: Rows, validation: Rows, *, epochs: int, seed: int = 0) -> Classified:
        """Learn from the labels of `train`, stop where the loss on `validation` is best (of at most `epochs`), keep that state."""
