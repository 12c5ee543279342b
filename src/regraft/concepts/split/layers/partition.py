"""How the rank-one components of a factorised matrix are divided: those that always act, and blocks that a gate lets through.

Enters: labels, or weights that sum to what they like. Leaves: a gate (B, tailors), one row an example, the same for every matrix.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.errors import ParameterError


@dataclass(frozen=True)
class Partition:
    """Learngenes, which are shared, then tailors.

    Attributes
    ----------
    learngenes : components that always act (N_G). families : (blocks, components a block) of each kind of label; classes are one kind with
        a block a class, and two kinds have labels of their own (a body and a task).
    """

    learngenes: int
    families: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "families", tuple((int(blocks), int(size)) for blocks, size in self.families))
        if self.learngenes < 0 or any(blocks < 0 or size < 0 for blocks, size in self.families) or not self.families:
            raise ParameterError(f"{self.learngenes} learngenes and tailors {self.families}: numbers of components are 0 or more")

    @classmethod
    def by_class(cls, learngenes: int, classes: int, tailors: int) -> "Partition":
        """One block of `tailors` components a class."""
        return cls(learngenes, ((classes, tailors),))

    @property
    def tailors(self) -> int:
        return sum(blocks * size for blocks, size in self.families)

    @property
    def rank(self) -> int:
        return self.learngenes + self.tailors

    @property
    def active(self) -> int:
        """Components that act on one example: learngenes and one block of each family (N_G + N_t)."""
        return self.learngenes + sum(size for blocks, size in self.families if blocks)

    def block(self, label: int, family: int = 0) -> slice:
        """Where the components of `label` lie among the tailors; an empty slice for a label that is none of the blocks."""
        blocks, size = self.families[family]
        start = sum(count * width for count, width in self.families[:family])
        return slice(start + label * size, start + (label + 1) * size) if 0 <= label < blocks else slice(0, 0)

    def onehot(self, *labels: Tensor) -> Tensor:
        """(B, tailors): 1 on the block of each example's label, 0 elsewhere; 0 all over for a label that is none. A tensor a family."""
        self._check(len(labels))
        found = [
            (given[:, None] == torch.arange(blocks, device=given.device)).float()
            for given, (blocks, _) in zip(labels, self.families, strict=True)
        ]
        return self.soft(*found)

    def soft(self, *weights: Tensor) -> Tensor:
        """(B, tailors) of weights (B, blocks), the same for all components of a block, or (B, blocks x size), one a component."""
        self._check(len(weights))
        rows = []
        for given, (blocks, size) in zip(weights, self.families, strict=True):
            if given.ndim != 2 or given.shape[1] not in (blocks, blocks * size):
                raise ParameterError(f"a gate of shape {tuple(given.shape)}: give (B, {blocks}) or (B, {blocks * size})")
            rows.append(given if given.shape[1] == blocks * size else given.repeat_interleave(size, dim=1))
        return torch.cat(rows, dim=1)

    def _check(self, given: int) -> None:
        if given != len(self.families):
            raise ParameterError(f"{given} labels for {len(self.families)} families of tailors")

    def check_fits(self, rank: int) -> None:
        """Raise `ParameterError` if a matrix of `rank` has too few components, and say how many tailors would fit."""
        if self.rank <= rank:
            return
        blocks = sum(blocks for blocks, _ in self.families)
        left = max(0, rank - self.learngenes) // max(1, blocks)
        raise ParameterError(
            f"{self.learngenes} learngenes and {self.tailors} tailors make {self.rank} components, the matrices have {rank}: "
            f"take at most {left} a class, fewer learngenes, or merge classes that are alike"
        )
