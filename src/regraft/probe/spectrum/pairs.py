"""All pairs of rows, block by block: sums of a Gaussian potential between directions, by groups of rows."""

import math

import torch

BLOCK = 1024  # rows; 1,024 x 1,024 distances in float64 are 8 MB


def pair_logs(rows: torch.Tensor, labels: torch.Tensor | None, t: float) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Logarithms of :math:`\sum \exp(-t \lVert \hat x_i - \hat x_j \rVert^2)` over pairs i < j, and numbers of pairs.

    Both of shape (groups, groups), upper triangle, where `labels` (n,) gives each row's group; without labels all rows are one group.
    Rows (n, K) of zeros have no direction: leave them out before.
    """
    rows = torch.nn.functional.normalize(rows.to(torch.float64), dim=1)
    if labels is not None:  # groups side by side, so that sums over a group are sums over a run of rows
        order = torch.argsort(labels, stable=True)
        rows, labels = rows[order], labels[order]
    sizes = torch.bincount(labels) if labels is not None else torch.tensor([len(rows)])
    groups = torch.split(rows, sizes.tolist())
    logs = torch.full((len(groups), len(groups)), -math.inf, dtype=torch.float64)
    counts = torch.zeros_like(logs)
    for a, left in enumerate(groups):
        for b in range(a, len(groups)):
            logs[a, b] = _between(left, groups[b], t, same=a == b)
            counts[a, b] = len(left) * (len(left) - 1) / 2 if a == b else len(left) * len(groups[b])
    return logs, counts


def _between(left: torch.Tensor, right: torch.Tensor, t: float, same: bool) -> torch.Tensor:
    """log sum over pairs of a row of `left` and one of `right`; over i < j where both are the same rows."""
    found = torch.tensor(-math.inf, dtype=torch.float64)
    for i in range(0, len(left), BLOCK):
        for j in range(i if same else 0, len(right), BLOCK):
            potential = -t * (2 - 2 * left[i : i + BLOCK] @ right[j : j + BLOCK].T).clamp(min=0)
            if same and i == j:
                potential = potential[torch.ones_like(potential, dtype=torch.bool).triu(1)]
            if potential.numel():
                found = torch.logaddexp(found, torch.logsumexp(potential.flatten(), 0).cpu())
    return found
