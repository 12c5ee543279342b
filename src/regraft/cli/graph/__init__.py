"""The verbs of `regraft graph`."""

from regraft.cli.graph import classify, facts

__all__ = ["classify", "facts"]
