"""Shares of the shapes of a node's walks, without training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor

from regraft.graph.edges import Graph
from regraft.graph.nodes.embedder import Fitted, Kinds, NodeEmbedder
from regraft.graph.nodes.features import Shapes, Walked
from regraft.method import Paper


@dataclass(frozen=True, eq=False)
class Counted(Fitted):
    """The shapes that were seen."""

    method: "AnonymousWalks"
    shapes: Shapes

    def transform(self, graph: Graph) -> Kinds:
        walked = Walked.of(graph, self.method.length, self.method.walks, self.seed + 1)
        return {"identity": walked.counts(self.shapes)}

    def tensors(self) -> dict[str, Tensor]:
        return {"patterns": torch.from_numpy(self.shapes.patterns), "bounds": torch.from_numpy(self.shapes.bounds)}


class AnonymousWalks(NodeEmbedder):
    """How often each shape of a walk occurs among a node's own.

    length : steps of a walk. walks : of each node.
    """

    kinds = ("identity",)
    inductive = True
    name = "anonymous-walks"
    paper = Paper("Anonymous Walk Embeddings", "Ivanov, Burnaev", 2018, arxiv="1805.11921")
    summary = "baseline: how often each shape of a walk occurs, without training"

    length: Annotated[int, Ge(1)] = 5
    walks: Annotated[int, Ge(1)] = 200

    def fit(self, graph: Graph, seed: int = 0) -> Counted:
        return Counted(self, seed, Walked.of(graph, self.length, self.walks, seed + 1).shapes(1))

    def restored(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], seed: int) -> Counted:
        return Counted(self, seed, Shapes(tensors["patterns"].numpy(), tensors["bounds"].numpy()))
