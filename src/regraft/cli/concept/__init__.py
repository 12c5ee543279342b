"""The verbs of `regraft concept`."""

from regraft.cli.concept import compare, decode, draw, edit, example, learn, split, sweep

__all__ = ["compare", "decode", "draw", "edit", "example", "learn", "split", "sweep"]
