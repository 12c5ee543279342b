"""The verbs of `regraft graph`."""

from regraft.cli.graph import facts

__all__ = ["facts"]
