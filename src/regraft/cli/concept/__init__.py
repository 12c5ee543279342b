"""The verbs of `regraft concept`."""

from regraft.cli.concept import decode

__all__ = ["decode"]
