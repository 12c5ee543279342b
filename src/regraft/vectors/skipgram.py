r"""Skip-gram pairs with negative samples from tokenized lines.

Enters: lines of token ids. Leaves: batches of (center, context, negatives), in a new random order each epoch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """`centers` (b,), `contexts` (b,), `negatives` (b, K); all ids of the new tokenizer."""

    centers: Ids
    contexts: Ids
    negatives: Ids


class SkipGrams:
    r"""Pairs of a token and its neighbors within `window` in the same line.

    A center is kept with probability :math:`\min(1, \sqrt{t/c})` where c is its count in the lines; contexts are not subsampled, and all
    positions of the window count. Negatives come from the unigram distribution to the power 3/4, with replacement; `distinct` draws
    those of a batch without, as long as there are tokens left, and so nearly uniformly where the vocabulary is not much larger.
    """

    def __init__(
        self,
        lines: Sequence[Sequence[int]],
        vocab_size: int,
        window: int = 5,
        t: float = 2.0,
        negatives: int = 5,
        *,
        distinct: bool = False,
    ) -> None:
        self.window, self.negatives, self.distinct = window, negatives, distinct
        lengths = np.fromiter((len(line) for line in lines), dtype=np.int64, count=len(lines))
        self.tokens = np.fromiter((token for line in lines for token in line), dtype=np.int64, count=int(lengths.sum()))
        self.line = np.repeat(np.arange(len(lines)), lengths)
        self.counts = np.bincount(self.tokens, minlength=vocab_size)
        noise = self.counts**0.75
        self.noise = np.cumsum(noise) / max(noise.sum(), 1.0)
        self.kept = np.minimum(1.0, np.sqrt(t / np.maximum(self.counts, 1)))

    def pairs(self, random: np.random.Generator) -> tuple[Ids, Ids]:
        """Centers and contexts of one epoch, shuffled; shape (pairs,) each."""
        places = np.flatnonzero(random.random(len(self.tokens)) < self.kept[self.tokens])
        centers, contexts = [], []
        for offset in (*range(-self.window, 0), *range(1, self.window + 1)):
            other = places + offset
            inside = (other >= 0) & (other < len(self.tokens))
            inside[inside] = self.line[places[inside]] == self.line[other[inside]]
            centers.append(self.tokens[places[inside]])
            contexts.append(self.tokens[other[inside]])
        order = random.permutation(sum(map(len, centers)))
        return np.concatenate(centers)[order], np.concatenate(contexts)[order]

    def batches(self, random: np.random.Generator, size: int, most: int | None = None) -> Iterator[Batch]:
        """One epoch, at most `most` pairs of it."""
        centers, contexts = self.pairs(random)
        for start in range(0, min(len(centers), most or len(centers)), size):
            block = slice(start, start + size)
            yield Batch(centers[block], contexts[block], self._negatives(random, (len(centers[block]), self.negatives)))

    def _negatives(self, random: np.random.Generator, shape: tuple[int, int]) -> Ids:
        if self.distinct:
            chances = np.diff(self.noise, prepend=0.0)
            size = min(shape[0] * shape[1], int((chances > 0).sum()))
            drawn = random.choice(len(chances), size, replace=False, p=chances / chances.sum())
            return np.asarray(np.resize(drawn, shape), dtype=np.int64)
        places = np.searchsorted(self.noise, random.random(shape), side="right")
        return np.asarray(np.minimum(places, len(self.noise) - 1))
