"""First and second moments of an embedding table, summed in float64 over blocks, and draws from them."""

import torch

from regraft.graft import iterate_blocks

BLOCK = 8192


def mean_and_std(table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Per-dimension mean and (population) standard deviation of `table` (n, d); both float64 of shape (d,)."""
    total = torch.zeros(table.shape[1], dtype=torch.float64)
    for block in iterate_blocks(table.shape[0], BLOCK):
        total += table[block].to(torch.float64).sum(0)
    mean = total / table.shape[0]
    squares = torch.zeros_like(mean)
    for block in iterate_blocks(table.shape[0], BLOCK):
        squares += (table[block].to(torch.float64) - mean).square().sum(0)
    return mean, (squares / table.shape[0]).sqrt()


def covariance(table: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    r""":math:`\Sigma = (E - \mu)^\top (E - \mu) / n`, shape (d, d), float64."""
    sigma = torch.zeros(table.shape[1], table.shape[1], dtype=torch.float64)
    for block in iterate_blocks(table.shape[0], BLOCK):
        centered = table[block].to(torch.float64) - mean
        sigma += centered.T @ centered
    return sigma / table.shape[0]


def sample_near_mean(table: torch.Tensor, count: int, scale: float, generator: torch.Generator) -> torch.Tensor:
    r"""Draw (count, d) rows from :math:`N(\mu, scale\,\Sigma)` in the table's dtype.

    The square root of the covariance comes from its eigenvectors, so that a table of deficient rank (fewer rows than dimensions, dead
    dimensions) is drawn from exactly and not replaced by its mean.
    """
    mean, _ = mean_and_std(table)
    values, vectors = torch.linalg.eigh(covariance(table, mean))
    root = vectors * (scale * values.clamp(min=0)).sqrt()
    noise = torch.randn(count, table.shape[1], generator=generator, dtype=torch.float64)
    rows: torch.Tensor = mean + noise @ root.T
    return rows.to(table.dtype)
