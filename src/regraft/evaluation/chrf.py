"""chrF of translations by sacrebleu, from counts a sentence, so that sentences can be drawn again for an interval.

Enters: hypotheses and references. Leaves: character n-gram counts of each sentence, and chrF (Popović 2015) of any sum of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from regraft.errors import EvaluationError, ParameterError

Counts = npt.NDArray[np.int64]


@cache
def metric() -> Any:
    """sacrebleu's `CHRF` with its defaults: characters up to six, no words, beta 2. Raises `EvaluationError` where it is missing."""
    try:
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        raise EvaluationError("chrF needs sacrebleu: pip install 'regraft[translation]'") from None
    return CHRF()


def ngram_counts(hypotheses: Sequence[str], references: Sequence[str]) -> Counts:
    """Counts of each sentence, (sentences, 18): n-grams of the hypothesis, of the reference, and shared, for n = 1 to 6.

    Raises `EvaluationError` without sacrebleu, `ParameterError` for sides of unequal length.
    """
    if len(hypotheses) != len(references):
        raise ParameterError(f"{len(hypotheses)} hypotheses for {len(references)} references: chrF needs as many on both sides")
    # sacrebleu's public functions draw sentences of one system alone; a paired interval needs what they draw from
    found = metric()._extract_corpus_statistics(hypotheses, [references])
    return np.array(found, dtype=np.int64).reshape(len(hypotheses), -1)


def chrf(counts: npt.NDArray[Any]) -> float:
    """chrF, 0 to 100, of summed counts (18,)."""
    return float(metric()._compute_score_from_stats(counts.tolist()).score)


@dataclass(frozen=True)
class ChrfSample:
    """chrF on the same sentences under each seed, for `regraft.evaluation.paired.paired_effect`.

    Attributes
    ----------
    counts : (seeds, sentences, 18) as from `ngram_counts`.
    """

    counts: Counts

    @property
    def documents(self) -> int:
        return int(self.counts.shape[1])

    @property
    def seeds(self) -> int:
        return len(self.counts)

    @property
    def value(self) -> float:
        """Corpus-level chrF, averaged over seeds."""
        return float(np.mean([chrf(counts) for counts in self.counts.sum(1)]))

    def resample(self, documents: Counts, seeds: Counts) -> float:
        picked = np.bincount(documents, minlength=self.documents)
        return float(np.mean([chrf(picked @ counts) for counts in self.counts[seeds]]))
