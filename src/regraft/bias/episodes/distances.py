"""Distances as pytorch-metric-learning knows them, read so that a greater number is always farther."""

from typing import Any

import torch
from pytorch_metric_learning.distances import BaseDistance
from torch import Tensor

EXACT = 4096  # rows up to which differences are taken one by one, so that near points do not cancel


class FlooredDistance(BaseDistance):  # type: ignore[misc]
    """Euclidean distance, not squared, with a floor: d = sqrt(|x - y|^2 + floor). Embeddings are taken as they are."""

    def __init__(self, floor: float = 1e-6, **kwargs: Any) -> None:
        super().__init__(normalize_embeddings=False, **kwargs)
        self.floor = floor

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        mode = "donot_use_mm_for_euclid_dist" if len(ref_emb) <= EXACT else "use_mm_for_euclid_dist_if_necessary"
        return (torch.cdist(query_emb, ref_emb, compute_mode=mode).square() + self.floor).sqrt()

    def pairwise_distance(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        return ((query_emb - ref_emb).square().sum(-1) + self.floor).sqrt()


def how_far(distance: Any, x: Tensor, y: Tensor) -> Tensor:
    """(n, m) distances from rows of `x` (n, d) to rows of `y` (m, d); of a similarity, 1 less it."""
    found: Tensor = distance(x, y)
    return 1 - found if distance.is_inverted else found
