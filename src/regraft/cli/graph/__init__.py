"""The verbs of `regraft graph`."""

from regraft.cli.graph import classify, nodes

__all__ = ["classify", "nodes"]
