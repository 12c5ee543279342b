"""The graft: a readable map from learned rows to new ones, `new = W @ old`, and what is done with rows."""

from regraft.graft.map import ORIGINS, Graft, HullCertificate, Rows, iterate_blocks

__all__ = ["ORIGINS", "Graft", "HullCertificate", "Rows", "iterate_blocks"]
