"""The verbs of `regraft bias`."""

from regraft.cli.bias import bases, compare, decipher, head, rich_features, symbols

__all__ = ["bases", "compare", "decipher", "head", "rich_features", "symbols"]
