"""One module a node embedder."""

from regraft.graph.nodes.embedder import NodeEmbedder

__all__ = ["NodeEmbedder"]
