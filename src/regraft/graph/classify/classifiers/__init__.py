"""One module a node classifier."""

from regraft.graph.classify.classifier import NodeClassifier

__all__ = ["NodeClassifier"]
