"""Do two spaces agree on the same samples? Neighbours, retrieval, cosines and kernels, each with an interval."""

from regraft.align.agreement.cka import linear_cka
from regraft.align.agreement.measures import Agreement, agree, cosines, neighbor_overlap, reciprocal_ranks
from regraft.align.agreement.neighbors import nearest, ranks

__all__ = ["Agreement", "agree", "cosines", "linear_cka", "nearest", "neighbor_overlap", "ranks", "reciprocal_ranks"]
