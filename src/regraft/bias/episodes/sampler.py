"""Episodes: some classes, a few examples of each to learn from, others to ask about."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler

from regraft.errors import ParameterError


class EpisodeSampler(Sampler[list[int]]):
    """Index lists for a `DataLoader`'s ``batch_sampler``: way x shot of support, then way x queries, both class by class.

    Support and queries of an episode are different examples. `labels` (n,) int64. Each pass draws anew, from `seed` on. Raises
    `ParameterError` where there are fewer classes, or examples of a class, than an episode needs.
    """

    def __init__(self, labels: Tensor, *, way: int, shot: int, queries: int, episodes: int, seed: int = 0) -> None:
        names, sizes = torch.unique(labels, return_counts=True)
        if len(names) < way:
            raise ParameterError(f"episodes of {way} classes from {len(names)}: ask for fewer, or give examples of more")
        if min(way, shot, queries, episodes) < 1 or way < 2:
            raise ParameterError(f"episodes of {way} classes, {shot} shots, {queries} queries: at least 2, 1 and 1 are needed")
        if (least := int(sizes.min())) < shot + queries:
            scarce = int(names[sizes.argmin()])
            raise ParameterError(f"class {scarce} has {least} examples, an episode needs {shot} + {queries} of each: ask for fewer")
        self.members = [torch.nonzero(labels == name)[:, 0] for name in names]
        self.way, self.shot, self.queries, self.episodes = way, shot, queries, episodes
        self.draw = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.episodes

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self.episodes):
            chosen = torch.randperm(len(self.members), generator=self.draw)[: self.way].tolist()
            drawn = [
                own[torch.randperm(len(own), generator=self.draw)[: self.shot + self.queries]]
                for own in map(self.members.__getitem__, chosen)
            ]
            picked = torch.stack(drawn)
            yield [*picked[:, : self.shot].flatten().tolist(), *picked[:, self.shot :].flatten().tolist()]
