"""Vectors of the nodes of one graph, for methods that learn nothing that another graph could use."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from regraft.errors import InputError
from regraft.graph.edges import Graph
from regraft.graph.nodes.embedder import Fitted, Kinds


@dataclass(frozen=True, eq=False)
class OneGraph(Fitted):
    """names : of the nodes that `vectors` (nodes, d) are of."""

    names: tuple[str, ...]
    vectors: npt.NDArray[np.float32]

    def transform(self, graph: Graph) -> Kinds:
        row = {name: number for number, name in enumerate(self.names)}
        if lost := [name for name in graph.names if name not in row]:
            raise InputError(
                f"{self.method.name} has no vector for node {lost[0]!r} ({len(lost)} such nodes): it knows only the graph that it was "
                "learned on; irwe and log-degree go to others"
            )
        return {"position": self.vectors[[row[name] for name in graph.names]]}

    def tensors(self) -> dict[str, Tensor]:
        return {"vectors": torch.from_numpy(self.vectors)}

    def facts(self) -> dict[str, list[str]]:
        return {"names": list(self.names)}
