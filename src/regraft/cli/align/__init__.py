"""`regraft align`: maps between spaces. One module a verb; each registers itself with the group."""

from regraft.cli.align import relative, stitch

__all__ = ["relative", "stitch"]
