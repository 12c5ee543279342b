"""The contract of a node embedder: learned on one graph, applied to it or to another one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from regraft.graph.edges import Graph
from regraft.method import Method

Kinds = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Fitted(ABC):
    """What was learned on a graph.

    Attributes
    ----------
    method : that learned it, as `methods` prints its settings. seed : of everything random.
    """

    method: "NodeEmbedder"
    seed: int

    @abstractmethod
    def transform(self, graph: Graph) -> Kinds:
        """(nodes, d) vectors by kind: "identity" (equal roles are close), "position" (near nodes are close), or one of them.

        Raises `InputError` for a graph that it was not learned on where the method cannot apply to others.
        """

    def tensors(self) -> dict[str, Tensor]:
        """What safetensors keeps."""
        return {}

    def facts(self) -> dict[str, Any]:
        """What JSON keeps beside them."""
        return {}


class NodeEmbedder(Method):
    """Base of every node embedder.

    kinds : of vectors that it gives. inductive : whether what it learned applies to another graph.

    Returns, by `fit`, what gives vectors to a graph.
    """

    family = "node-embedder"
    kinds: ClassVar[tuple[str, ...]]
    inductive: ClassVar[bool]

    @abstractmethod
    def fit(self, graph: Graph, seed: int = 0) -> Fitted:
        """Learn on `graph`."""

    @abstractmethod
    def restored(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], seed: int) -> Fitted:
        """What `Fitted.tensors` and `Fitted.facts` gave, as it was."""
