"""The verbs of `regraft graph`."""

from regraft.cli.graph import classify, facts, nodes

__all__ = ["classify", "facts", "nodes"]
