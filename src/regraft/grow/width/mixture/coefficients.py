"""Coefficients of the blocks that growth adds: how each new block mixes the templates that are there."""

from collections.abc import Sequence
from typing import Literal

import torch

Rule = Literal["orthogonal", "copy", "zero", "random", "none"]


def initial(blocks: int, templates: int, generator: torch.Generator, *, orthogonal: bool = True) -> torch.Tensor:
    """Coefficients (blocks, templates) before training: rows of one orthogonal matrix, else normal."""
    normal = torch.randn(blocks, templates, generator=generator)
    if not orthogonal:
        return normal
    tall = normal if blocks >= templates else normal.T
    q, r = torch.linalg.qr(tall)
    q = q * torch.sign(torch.diagonal(r))
    rows: torch.Tensor = q if blocks >= templates else q.T
    return rows.contiguous()


def added(
    known: Sequence[torch.Tensor], rule: Rule, own: torch.Tensor, generator: torch.Generator, scale: float = 1.0, noise: float = 0.01
) -> torch.Tensor:
    """Coefficients (templates,) of the next block.

    Parameters
    ----------
    known : coefficients of all blocks before it. own : what it was initialized with.
    rule : "orthogonal": the third block of all keeps `own`, a later one gets the direction that `known` use least, the last right singular
        vector of them, times `scale`; it is orthogonal to all of them if there are more templates than blocks. "copy": of the block two
        before, plus `noise` times a random direction; "zero"; "random", uniform in [0, 1); "none" keeps `own`.
    """
    if rule == "zero":
        return torch.zeros_like(own)
    if rule == "random":
        return torch.rand(own.shape, generator=generator)
    if rule == "copy":
        step = torch.randn(own.shape, generator=generator)
        near: torch.Tensor = known[len(known) - 2] + noise * step / step.norm()
        return near
    if rule == "none" or len(known) < 3:
        return own.clone()
    directions = torch.linalg.svd(torch.stack([one.detach().float() for one in known]), full_matrices=True).Vh
    least: torch.Tensor = scale * directions[-1]
    return least
