"""Differentiable versions of three measures, to train with: regularizers, not measures.

A measure that is trained on says nothing any more of how well a model does; measure with another one, or with labels. They work on one
batch, in its own type, and need N larger than K to mean what the measures mean. Add them to a loss with a weight and the sign that is
named.
"""

import torch


def rankme_regularizer(rows: torch.Tensor, epsilon: float = 1e-7) -> torch.Tensor:
    """RankMe of a batch (N, K): add it with a negative weight. No gradient reaches directions whose singular value is 0."""
    values = torch.linalg.svdvals(rows)
    shares = values / values.sum() + epsilon
    return torch.exp(-(shares * shares.log()).sum())


def isoscore_star_regularizer(rows: torch.Tensor, zeta: float = 0.2, target: torch.Tensor | None = None) -> torch.Tensor:
    """IsoScore* of a batch (N, K), shrunk by `zeta` towards `target` (K, K), by default the identity times the mean variance.

    Add it with a negative weight for rows that use all directions, with a positive one for rows that use few.
    """
    covariance = torch.cov(rows.T)
    n = covariance.shape[0]
    if target is None:
        target = torch.eye(n, dtype=rows.dtype, device=rows.device) * covariance.diagonal().mean()
    mixed = (1 - zeta) * covariance + zeta * target
    # of the eigenvalues only their sum and sum of squares are needed, and those are smooth where eigenvalues meet
    cosine = mixed.diagonal().sum() / (n**0.5 * mixed.square().sum().sqrt())
    defect = (2 * n * (1 - cosine)) / (2 * (n - n**0.5))
    score: torch.Tensor = ((n - defect * (n - n**0.5)) ** 2 - n) / (n * (n - 1))
    return score


def uniformity_regularizer(rows: torch.Tensor, t: float = 2.0) -> torch.Tensor:
    """Uniformity of a batch (N, K): add it with a positive weight. All pairs of the batch are made."""
    unit = torch.nn.functional.normalize(rows, dim=1)
    return torch.pdist(unit).square().mul(-t).exp().mean().log()
