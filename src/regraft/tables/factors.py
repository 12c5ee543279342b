"""Two factors in the place of a table: rows of few coordinates, and what each coordinate stands for."""

import math

import torch
from torch import nn

BLOCK = 1 << 16  # rows at a time


class Factors(nn.Module):
    """Rows (n, d) as `left` (n, r) times `right` (r, d); or as they are, where factors would not be smaller (`right` is then None)."""

    right: nn.Parameter | None

    def __init__(self, rows: int, dim: int, rank: int, bound: float) -> None:
        super().__init__()
        plain = rank * (rows + dim) >= rows * dim
        self.left = nn.Parameter(torch.empty(rows, dim if plain else rank).uniform_(-bound, bound))
        self.right = None if plain else nn.Parameter(torch.randn(rank, dim) / math.sqrt(rank))

    @staticmethod
    def words(rows: int, dim: int, rank: int) -> int:
        return min(rank * (rows + dim), rows * dim)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows (m, d) of ids (m,)."""
        found = nn.functional.embedding(ids, self.left)
        return found if self.right is None else found @ self.right

    @torch.no_grad()
    def fit(self, weight: torch.Tensor, seed: int = 0) -> None:
        """The best factors of `weight` (n, d) in squared error: its truncated singular value decomposition (the leading right vectors)."""
        if self.right is None:
            self.left.copy_(weight)
            return
        leading = leading_directions(weight, len(self.right))
        self.right.copy_(leading.T)
        for start in range(0, len(weight), BLOCK):
            self.left[start : start + BLOCK] = weight[start : start + BLOCK].double() @ leading

    def memory(self) -> dict[str, float]:
        """Words by part."""
        return {"rows": self.left.numel(), "directions": 0 if self.right is None else self.right.numel()}


def leading_directions(weight: torch.Tensor, rank: int) -> torch.Tensor:
    """The first `rank` right singular vectors of `weight` (n, d), as columns (d, rank) in float64, from its d x d products."""
    products = weight.new_zeros(weight.shape[1], weight.shape[1], dtype=torch.float64)
    for part in torch.split(weight, BLOCK):
        products += part.double().T @ part.double()
    found: torch.Tensor = torch.linalg.eigh(products).eigenvectors.flip(1)[:, :rank]
    return found
