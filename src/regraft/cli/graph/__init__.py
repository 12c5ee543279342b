"""The verbs of `regraft graph`."""

from regraft.cli.graph import classify

__all__ = ["classify"]
