"""Which ids are frequent, by counts of the training split."""

import torch


def frequent_ids(counts: torch.Tensor, most: int, seed: int | None = None) -> torch.Tensor:
    """Which ids (n,) reach the least count that at most `most` ids reach; with a seed `most` exactly, those at the edge drawn."""
    counts = counts.cpu()
    if most < 1:
        return torch.zeros(len(counts), dtype=torch.bool)
    if seed is None:
        ordered = counts.sort(descending=True).values
        edge = ordered[most] if most < len(ordered) else ordered[-1] - 1  # the first count that is too low
        return (counts > edge) & (counts > 0)
    drawn = torch.randperm(len(counts), generator=torch.Generator().manual_seed(seed))
    chosen = drawn[counts[drawn].argsort(descending=True, stable=True)[:most]]
    return torch.zeros(len(counts), dtype=torch.bool).index_fill(0, chosen, True)
