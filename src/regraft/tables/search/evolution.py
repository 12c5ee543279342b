"""Evolution over tuples of whole numbers: the best are kept, changed in places, and joined.

Enters: a score of a candidate. Leaves: the best ever scored. Candidates are tuples: nothing that was scored changes afterwards.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from regraft.errors import ParameterError

Candidate = tuple[int, ...]
Score = Callable[[Candidate], tuple[float, float]]


@dataclass(frozen=True)
class Evolution:
    """How it goes.

    Attributes
    ----------
    generations : T. keep : best candidates that go on as they are. mutations, crossings : new ones of either kind a generation, of the
        as many best. chance : that a mutation draws an entry anew.
    slack : of all candidates scored, the smallest that is worse than the best by no more than this is taken; ours.
    """

    generations: int = 30
    keep: int = 5
    mutations: int = 10
    crossings: int = 10
    chance: float = 0.1
    slack: float = 0.0

    def __post_init__(self) -> None:
        if self.generations < 1 or min(self.keep, self.mutations, self.crossings) < 0 or self.mutations + self.crossings < 1:
            raise ParameterError(f"{self}: at least one generation, and one candidate a generation that is new")

    def search(self, score: Score, entries: int, most: int, generator: torch.Generator) -> "Found":
        """The best of candidates of `entries` numbers from 1 to `most`; `score` gives quality (greater is better) and size."""
        scored: dict[Candidate, tuple[float, float]] = {}
        history: list[float] = []
        population = [_drawn(entries, most, generator) for _ in range(self.keep + self.mutations + self.crossings)]
        for _ in range(self.generations):
            for one in population:
                if one not in scored:
                    scored[one] = score(one)
            ranked = sorted(dict.fromkeys(population), key=lambda one: -scored[one][0])
            history.append(scored[ranked[0]][0])
            population = ranked[: self.keep] + self._mutated(ranked, most, generator) + self._crossed(ranked, most, generator)
        best = max(quality for quality, _ in scored.values())
        near = [one for one, (quality, _) in scored.items() if quality >= best - self.slack]
        chosen = min(near, key=lambda one: (scored[one][1], -scored[one][0]) if self.slack else (-scored[one][0], scored[one][1]))
        return Found(chosen, *scored[chosen], tuple(history), len(scored))

    def _mutated(self, ranked: list[Candidate], most: int, generator: torch.Generator) -> list[Candidate]:
        parents = ranked[: max(1, self.mutations)]
        return [mutated(parents[_below(len(parents), generator)], most, self.chance, generator) for _ in range(self.mutations)]

    def _crossed(self, ranked: list[Candidate], most: int, generator: torch.Generator) -> list[Candidate]:
        parents = ranked[: max(2, self.crossings)]
        if len(parents) < 2 or len(parents[0]) < 2:  # nothing to join
            return [mutated(parents[0], most, self.chance, generator) for _ in range(self.crossings)]
        found = []
        for _ in range(self.crossings):
            first, second = torch.randperm(len(parents), generator=generator)[:2].tolist()
            found.append(crossed(parents[first], parents[second], generator))
        return found


@dataclass(frozen=True)
class Found:
    """The candidate taken, its score, the best of each generation, and how many were scored."""

    candidate: Candidate
    quality: float
    size: float
    history: tuple[float, ...]
    scored: int


def mutated(parent: Candidate, most: int, chance: float, generator: torch.Generator) -> Candidate:
    """`parent` with each entry drawn anew, from 1 to `most`, by `chance`."""
    anew = torch.rand(len(parent), generator=generator) < chance
    return tuple(
        new if change else old for old, new, change in zip(parent, _drawn(len(parent), most, generator), anew.tolist(), strict=True)
    )


def crossed(first: Candidate, second: Candidate, generator: torch.Generator) -> Candidate:
    """The front of one and the back of the other, cut between two entries."""
    cut = 1 + _below(len(first) - 1, generator)
    return first[:cut] + second[cut:]


def _drawn(entries: int, most: int, generator: torch.Generator) -> Candidate:
    return tuple(torch.randint(1, most + 1, (entries,), generator=generator).tolist())


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(0, count, (1,), generator=generator))
