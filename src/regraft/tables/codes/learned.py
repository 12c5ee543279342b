"""Product codes that are learned with the model: a part of a row is the centroid nearest to that part of a row that only trains."""

import torch
from torch import nn

from regraft.errors import ParameterError


def bits_of(centroids: int) -> int:
    """Bits of a code among `centroids`."""
    return max(1, (centroids - 1).bit_length())


def parts_of(dim: int, most: int) -> int:
    """The largest divisor of `dim` that is at most `most`. Raises `ParameterError` for none."""
    if most < 1:
        raise ParameterError(f"parts={most}: a row has at least one")
    return next(parts for parts in range(min(most, dim), 0, -1) if dim % parts == 0)


class Codebooks(nn.Module):
    """Centroids (p, K, d / p) and the choice among them, for queries (m, d).

    Scores -||q - K_c||^2 (or the product q . K_c), normalized over the batch for each centroid without scale and shift, then the greatest.
    """

    def __init__(self, dim: int, parts: int, centroids: int, bound: float, *, product: bool = False) -> None:
        super().__init__()
        self.parts, self.product = parts, product
        self.keys = nn.Parameter(torch.empty(parts, centroids, dim // parts).uniform_(-bound, bound))
        self.norm = nn.BatchNorm1d(parts * centroids, affine=False)

    def scores(self, queries: torch.Tensor) -> torch.Tensor:
        """Normalized scores (m, p, K), in float32 also under autocast: of nearly equal ones the same must win as at export."""
        with torch.autocast(queries.device.type, enabled=False):
            return self._scores(queries.float())

    def _scores(self, queries: torch.Tensor) -> torch.Tensor:
        cut = queries.view(len(queries), self.parts, self.keys.shape[2]).transpose(0, 1)
        products = torch.bmm(cut, self.keys.transpose(1, 2))  # (p, m, K)
        if not self.product:
            products = 2 * products - cut.square().sum(2, keepdim=True) - self.keys.square().sum(2).unsqueeze(1)
        flat = products.transpose(0, 1).flatten(1)
        alone = self.norm.training and len(flat) < 2
        normed = (
            nn.functional.batch_norm(flat, self.norm.running_mean, self.norm.running_var, eps=self.norm.eps) if alone else self.norm(flat)
        )
        return normed.view(len(queries), self.parts, self.keys.shape[1])


def looked_up(centroids: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Rows (m, d) of codes (m, p) in centroids (p, K, d / p)."""
    parts, many, _ = centroids.shape
    flat = codes + many * torch.arange(parts, device=codes.device)
    return nn.functional.embedding(flat, centroids.flatten(0, 1)).flatten(1)
