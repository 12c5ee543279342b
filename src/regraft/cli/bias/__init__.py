"""The verbs of `regraft bias`."""

from regraft.cli.bias import compare, rich_features

__all__ = ["compare", "rich_features"]
