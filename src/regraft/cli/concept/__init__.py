"""The verbs of `regraft concept`."""

from regraft.cli.concept import compare, draw, edit, example, learn, sweep

__all__ = ["compare", "draw", "edit", "example", "learn", "sweep"]
