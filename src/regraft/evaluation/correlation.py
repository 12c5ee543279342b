"""Rank correlation over pairs, such that pairs can be drawn again: what similarity tasks are measured by.

Enters: a score a pair (one row a seed) and the gold of each pair. Leaves: Spearman's rho, ties averaged, also over drawn pairs.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from regraft.errors import ParameterError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Correlation:
    """Spearman correlation of scores with gold, averaged over seeds; pairs are the documents.

    Attributes
    ----------
    scores : (seeds, pairs). gold : (pairs,). Raises `ParameterError` for other shapes, and for fewer than two pairs.
    """

    scores: Floats
    gold: Floats

    def __post_init__(self) -> None:
        if self.scores.ndim != 2 or self.scores.shape[1:] != self.gold.shape or len(self.gold) < 2:
            raise ParameterError(f"a correlation needs (seeds, pairs) scores and a gold a pair, got {self.scores.shape}, {self.gold.shape}")

    @property
    def documents(self) -> int:
        return len(self.gold)

    @property
    def seeds(self) -> int:
        return len(self.scores)

    @property
    def value(self) -> float:
        return self.resample(np.arange(self.documents), np.arange(self.seeds))

    def resample(self, documents: npt.NDArray[np.int64], seeds: npt.NDArray[np.int64]) -> float:
        gold = self.gold[documents]
        return float(np.mean([spearman(self.scores[seed, documents], gold) for seed in seeds]))

    def resample_many(self, times: npt.NDArray[np.int64], seeds: npt.NDArray[np.int64]) -> Floats:
        """The same for many draws: pairs that were drawn `times` (draws, pairs), `seeds` (draws, seeds); values (draws,)."""
        drawn, gold = times.astype(np.float64), _ranks(self.gold, times)
        scale = np.einsum("dp,dp,dp->d", drawn, gold, gold)
        found = np.empty((len(self.scores), len(times)))
        for seed, scores in enumerate(self.scores):
            own = _ranks(scores, times)
            length = np.sqrt(np.einsum("dp,dp,dp->d", drawn, own, own) * scale)
            together = np.einsum("dp,dp,dp->d", drawn, own, gold)
            found[seed] = np.divide(together, length, out=np.zeros_like(length), where=length > 0)
        return np.asarray(found[seeds, np.arange(len(times))[:, None]].mean(1))


def _ranks(values: Floats, times: npt.NDArray[np.int64]) -> Floats:
    """Rank of each value among those drawn, ties averaged, less the mean rank: (draws, pairs), for every value, drawn or not."""
    _, run, lengths = np.unique(values, return_inverse=True, return_counts=True)  # runs of equal values
    size = np.add.reduceat(times[:, np.argsort(values)], np.cumsum(lengths) - lengths, axis=1)
    below = np.cumsum(size, axis=1) - size
    return np.asarray((below + (size + 1) / 2 - (times.sum(1, keepdims=True) + 1) / 2)[:, run])


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation with ties averaged; 0 where one side is constant, for then nothing is ordered."""
    x, y = (rankdata(side) - (len(side) + 1) / 2 for side in (a, b))
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale > 0 else 0.0
