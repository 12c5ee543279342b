"""The verbs of `regraft concept`."""

from regraft.cli.concept import compare, draw, example, learn

__all__ = ["compare", "draw", "example", "learn"]
