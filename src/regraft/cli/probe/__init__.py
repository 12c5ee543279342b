"""`regraft probe`: what representations hold. One module a verb; each registers itself with the group."""

from regraft.cli.probe import bias, spectrum, syntax, tables  # each registers its verb with the group

__all__ = ["bias", "spectrum", "syntax", "tables"]
