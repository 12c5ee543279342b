"""The verbs of `regraft bias`."""

from regraft.cli.bias import bases, compare, decipher, head, symbols

__all__ = ["bases", "compare", "decipher", "head", "symbols"]
