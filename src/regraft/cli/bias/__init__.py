"""The verbs of `regraft bias`."""

from regraft.cli.bias import compare

__all__ = ["compare"]
