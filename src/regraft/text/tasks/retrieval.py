"""Retrieval: are the documents that answer a query among the nearest?"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regraft.evaluation.paired import Sample
from regraft.text.tasks.task import Encode, Task, checked, unit

QUERIES_AT_ONCE = 256


@dataclass(frozen=True)
class Retrieval(Task):
    """nDCG@k by cosine over all documents. `queries`, `corpus` : id -> text. `relevant` : query id -> {document id: grade above 0}."""

    queries: Mapping[str, str]
    corpus: Mapping[str, str]
    relevant: Mapping[str, Mapping[str, float]]
    k: int = 10

    @property
    def documents(self) -> int:
        return len(self.queries)

    @property
    def texts(self) -> list[str]:
        return list(self.queries.values())

    @property
    def typical(self) -> list[str]:
        return list(self.corpus.values())

    def measure(self, encode: Encode) -> Sample:
        names = list(self.corpus)
        corpus = unit(checked(encode(list(self.corpus.values()), "document"), self.name))
        queries = unit(checked(encode(list(self.queries.values()), "query"), self.name))
        gains = []
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            scores = queries[start : start + QUERIES_AT_ONCE] @ corpus.T
            ids = list(self.queries)[start : start + QUERIES_AT_ONCE]
            gains += [self._ndcg(row, names, self.relevant[name]) for row, name in zip(scores, ids, strict=True)]
        return Sample.of(gains)

    def _ndcg(self, scores: npt.NDArray[np.float64], names: list[str], relevant: Mapping[str, float]) -> float:
        """Grades as gains, 1 / log2(rank + 1) as weights; among equal scores the earlier document first."""
        first = np.argsort(-scores, kind="stable")[: self.k]
        weights = 1 / np.log2(np.arange(2, self.k + 2))
        gained = sum(relevant.get(names[at], 0.0) * weight for at, weight in zip(first, weights, strict=False))
        best = sum(grade * weight for grade, weight in zip(sorted(relevant.values(), reverse=True), weights, strict=False))
        return float(gained / best)
