"""The verbs of `regraft bias`."""

from regraft.cli.bias import bases, compare, head

__all__ = ["bases", "compare", "head"]
