"""Verbs that list what there is. One module a verb."""

from regraft.cli.listing import data, methods  # each registers its verb

__all__ = ["data", "methods"]
