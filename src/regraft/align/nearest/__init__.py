"""Exact nearest neighbours between two tables, plain and by CSLS, in blocks: never a matrix of one table by the other."""

from regraft.align.nearest.csls import Retrieval, hubness, unit_float32
from regraft.align.nearest.search import Neighbours, mutual, nearest, nearest_both

__all__ = ["Neighbours", "Retrieval", "hubness", "mutual", "nearest", "nearest_both", "unit_float32"]
