"""How far two layers' representations of the same batch are apart: 1 - CKA, 1 - RSA, or what ridge regression leaves unexplained.

Enters: features (..., B, p) of the target, and of the guide only a (..., B, B) description, so that widths need not match and the guide's
can be kept. Leaves: distances in [0, 1] (RSA: [0, 2]) with gradients for the target, finite also where features do not vary.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

TINY = 1e-12
RIDGE = 1e-2  # of ridge regression, relative to the mean eigenvalue of the target's Gram matrix


def centered(x: Tensor) -> Tensor:
    """Features with the batch's mean taken away, at least in float32."""
    x = x if x.dtype == torch.float64 else x.float()
    return x - x.mean(-2, keepdim=True)


def gram(x: Tensor) -> Tensor:
    """Centered Gram matrix (..., B, B): HXX'H, without ever making H."""
    x = centered(x)
    return x @ x.mT


def cosines(x: Tensor) -> Tensor:
    """Cosines of all pairs of a batch, (..., B, B)."""
    x = normalize(x if x.dtype == torch.float64 else x.float(), dim=-1, eps=TINY)
    return x @ x.mT


def cka(x: Tensor, y: Tensor) -> Tensor:
    """Linear CKA, the biased estimator, of features (..., B, p) and (..., B, q); by features where both are narrower than the batch."""
    if max(x.shape[-1], y.shape[-1]) >= x.shape[-2]:
        return cka_of_grams(gram(x), gram(y))
    x, y = centered(x), centered(y)
    norms = (x.mT @ x).flatten(-2).norm(dim=-1) * (y.mT @ y).flatten(-2).norm(dim=-1)
    alike: Tensor = (x.mT @ y).square().sum((-2, -1)) / norms.clamp(min=TINY)
    return alike


def cka_of_grams(k: Tensor, other: Tensor) -> Tensor:
    """<K, L> / (|K| |L|) of centered Gram matrices; 0 where either is 0."""
    norms = k.flatten(-2).norm(dim=-1) * other.flatten(-2).norm(dim=-1)
    alike: Tensor = (k * other).sum((-2, -1)) / norms.clamp(min=TINY)
    return alike


def _cka(x: Tensor, described: Tensor) -> Tensor:
    return 1 - cka_of_grams(gram(x), described)


def _rsa(x: Tensor, described: Tensor) -> Tensor:
    """1 - Pearson correlation over the pairs of a batch."""
    first, second = torch.triu_indices(x.shape[-2], x.shape[-2], 1, device=x.device)
    a, b = (one[..., first, second] for one in (cosines(x), described))
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    alike: Tensor = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)).clamp(min=TINY)
    return 1 - alike


def _ridge(x: Tensor, described: Tensor) -> Tensor:
    """Share of the guide's variance that ridge regression on the target's features leaves: tr(R L R) / tr(L), R = a (K + a I)^-1.

    The closed-form residual on the batch itself is inferred: the released code has no ridge distance.
    """
    k = gram(x)
    a = (RIDGE * k.diagonal(dim1=-2, dim2=-1).mean(-1)).clamp(min=TINY)[..., None, None]
    shrunk = k + a * torch.eye(k.shape[-1], dtype=k.dtype, device=k.device)
    left = torch.linalg.solve(shrunk, described) * a
    residual: Tensor = torch.linalg.solve(shrunk, left.mT) * a
    total = described.diagonal(dim1=-2, dim2=-1).sum(-1)
    return residual.diagonal(dim1=-2, dim2=-1).sum(-1) / total.clamp(min=TINY)


@dataclass(frozen=True)
class Distance:
    """`describe`: what is kept of the guide's features. `between`: features of the target and that, to a distance."""

    describe: Callable[[Tensor], Tensor]
    between: Callable[[Tensor, Tensor], Tensor]


DISTANCES = {"cka": Distance(gram, _cka), "rsa": Distance(cosines, _rsa), "ridge": Distance(gram, _ridge)}
