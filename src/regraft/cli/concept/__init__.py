"""The verbs of `regraft concept`."""

from regraft.cli.concept import split

__all__ = ["split"]
