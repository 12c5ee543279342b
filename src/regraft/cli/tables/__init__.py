"""`regraft tables`: embedding tables at a fraction of their memory. One module a verb; each registers itself with the group."""

from regraft.cli.tables import compress

__all__ = ["compress"]
