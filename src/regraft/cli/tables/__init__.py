"""`regraft tables`: embedding tables at a fraction of their memory. One module a verb; each registers itself with the group."""

from regraft.cli.tables import compare, compress

__all__ = ["compare", "compress"]
