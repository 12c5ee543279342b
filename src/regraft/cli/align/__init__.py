"""`regraft align`: maps between spaces. One module a verb; each registers itself with the group."""

from regraft.cli.align import compare, diagnose, evaluate, fit, relative, search, stitch

__all__ = ["compare", "diagnose", "evaluate", "fit", "relative", "search", "stitch"]
