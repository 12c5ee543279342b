"""Losses of groups of examples: the worst alone, or weights that move towards the worst."""

from collections.abc import Sequence

import torch
from torch import Tensor


def group_means(losses: Tensor, groups: Sequence[Tensor]) -> Tensor:
    """(groups,) mean of `losses` (n,) over each mask (n,); groups may overlap."""
    marks = torch.stack([one.to(losses.dtype) for one in groups])
    return marks @ losses / marks.sum(1)


def worst_group(losses: Tensor, groups: Sequence[Tensor]) -> Tensor:
    """max over groups of the mean loss; its gradient is that of the worst group alone."""
    return group_means(losses, groups).max()


class GroupDRO:
    r"""Weights q of groups: :math:`q_g \leftarrow q_g e^{\eta L_g}`, renormalized, before the loss :math:`\sum_g q_g L_g` is taken.

    With eta = 0 it is the mean of the groups' losses.
    """

    def __init__(self, groups: int, eta: float = 0.01) -> None:
        self.q, self.eta = torch.full((groups,), 1 / groups), eta

    def __call__(self, means: Tensor) -> Tensor:
        """The loss, of (groups,) mean losses; a group that a batch has nothing of is NaN and keeps its share."""
        there = ~means.isnan()
        known = torch.where(there, means, 0.0)
        q = self.q.to(means) * (self.eta * known.detach()).exp()
        self.q = q / q.sum()
        return (self.q * known).sum()


class GroupBatches:
    """Batches that are drawn uniformly over groups, then over the examples of each: indices (batch,) and their groups (batch,)."""

    def __init__(self, groups: Sequence[Tensor], batch: int, seed: int) -> None:
        self.members = [torch.nonzero(one)[:, 0] for one in groups]
        self.sizes = torch.tensor([len(one) for one in self.members])
        self.starts = self.sizes.cumsum(0) - self.sizes
        self.flat = torch.cat(self.members)
        self.batch, self.draw = batch, torch.Generator().manual_seed(seed)

    def __call__(self) -> tuple[Tensor, Tensor]:
        group = torch.randint(len(self.members), (self.batch,), generator=self.draw)
        place = (torch.rand(self.batch, generator=self.draw) * self.sizes[group]).long()
        return self.flat[self.starts[group] + place], group


def means_of_batch(losses: Tensor, group: Tensor, groups: int) -> Tensor:
    """(groups,) mean of `losses` (batch,) by group, NaN where a batch has none."""
    sums = losses.new_zeros(groups).index_add(0, group, losses)
    return sums / torch.bincount(group, minlength=groups)
