"""Product codes: a row is one of K centroids in each of p parts, chosen by the nearest to a row that only trains; packed, they serve.

Codes of b bits lie beside each other, a row of p of them in whole bytes. What is here, two methods need: DPQ and MGQE.
"""

import math

import torch
from torch import nn

from regraft.errors import ParameterError

POWERS = tuple(1 << place for place in range(8))


def packed(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Bytes (n, ceil(p bits / 8)), uint8, of codes (n, p), each below 2^bits."""
    spread = (codes.unsqueeze(-1) >> torch.arange(bits, device=codes.device)) & 1
    spread = nn.functional.pad(spread.flatten(1), (0, -codes.shape[1] * bits % 8))
    return (spread.view(len(codes), -1, 8) * torch.tensor(POWERS, device=codes.device)).sum(2).to(torch.uint8)


def unpacked(stored: torch.Tensor, parts: int, bits: int) -> torch.Tensor:
    """Codes (n, p), int64, of what `packed` made."""
    spread = (stored.long().unsqueeze(-1) >> torch.arange(8, device=stored.device)) & 1
    spread = spread.flatten(1)[:, : parts * bits].view(len(stored), parts, bits)
    return (spread << torch.arange(bits, device=stored.device)).sum(2)


def bytes_of(parts: int, bits: int) -> int:
    """Bytes of a row of `parts` codes."""
    return math.ceil(parts * bits / 8)


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
        """Normalized scores (m, p, K)."""
        cut = queries.view(len(queries), self.parts, -1).transpose(0, 1)
        products = torch.bmm(cut, self.keys.transpose(1, 2))  # (p, m, K)
        if not self.product:
            products = 2 * products - cut.square().sum(2, keepdim=True) - self.keys.square().sum(2).unsqueeze(1)
        flat = products.transpose(0, 1).reshape(len(queries), -1)
        alone = self.norm.training and len(flat) < 2
        normed = (
            nn.functional.batch_norm(flat, self.norm.running_mean, self.norm.running_var, eps=self.norm.eps) if alone else self.norm(flat)
        )
        return normed.view(len(queries), self.parts, -1)


def looked_up(centroids: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """Rows (m, d) of codes (m, p) in centroids (p, K, d / p)."""
    parts, many, _ = centroids.shape
    flat = codes + many * torch.arange(parts, device=codes.device)
    return nn.functional.embedding(flat, centroids.flatten(0, 1)).flatten(1)
