"""Snippets as packed tensors: hidden states beside heights and labels, and batches of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

import torch

from regraft.probe.probes.ast_probe.encoding import NONE, Code
from regraft.probe.probes.ast_probe.probe import UNSEEN


@dataclass(frozen=True)
class Labels:
    """The labels that a probe can give: of constituents and unary ones."""

    constituents: tuple[str, ...]
    unary: tuple[str, ...]

    @classmethod
    def of(cls, codes: Sequence[Code]) -> "Labels":
        c, u = ({label for code in codes for label in part(code)} | {NONE} for part in (attrgetter("c"), attrgetter("u")))
        return cls(tuple(sorted(c)), tuple(sorted(u)))


@dataclass(frozen=True)
class Examples:
    """S snippets of T tokens and P = T - S pairs of neighbours.

    Attributes
    ----------
    states : (T, m1), of any float type. lengths : (S,) tokens of each. heights : (P,). constituents : (P,) numbers of labels, `UNSEEN` for
    those that `Labels` does not have. unary : (T,).
    """

    states: torch.Tensor
    lengths: torch.Tensor
    heights: torch.Tensor
    constituents: torch.Tensor
    unary: torch.Tensor

    @classmethod
    def of(cls, codes: Sequence[Code], states: torch.Tensor, labels: Labels) -> "Examples":
        """`states` (T, m1) of the tokens of all `codes`, in their order."""
        c, u = ({label: number for number, label in enumerate(known)} for known in (labels.constituents, labels.unary))
        return cls(
            states,
            torch.tensor([len(code.u) for code in codes]),
            torch.tensor([height for code in codes for height in code.d], dtype=torch.float32),
            torch.tensor([c.get(label, UNSEEN) for code in codes for label in code.c], dtype=torch.long),
            torch.tensor([u.get(label, UNSEEN) for code in codes for label in code.u], dtype=torch.long),
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, which: torch.Tensor, device: str = "cpu") -> "Examples":
        """The snippets `which` (n,), their states in float32 on `device`."""
        lengths = self.lengths[which]
        tokens = _ranges(self.lengths.cumsum(0)[which] - lengths, lengths)
        pairs = _ranges((self.lengths - 1).cumsum(0)[which] - (lengths - 1), lengths - 1)
        parts = (self.states[tokens].float(), lengths, self.heights[pairs], self.constituents[pairs], self.unary[tokens])
        return Examples(*(part.to(device) for part in parts))

    def batches(self, size: int, order: torch.Tensor | None = None, device: str = "cpu") -> Iterator["Examples"]:
        """All snippets, `size` at a time, in `order`."""
        for which in torch.split(torch.arange(len(self)) if order is None else order, size):
            yield self.take(which, device)


def _ranges(first: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """first[0], first[0] + 1, ..., count[0] of them, then those of the next."""
    offsets = torch.arange(int(count.sum())) - (count.cumsum(0) - count).repeat_interleave(count)
    return first.repeat_interleave(count) + offsets
