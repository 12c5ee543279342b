"""What a compressed table is worth beside the one it was made of: nearest neighbours, distances between words, error of its values.

The compressed table is read in blocks and never made whole.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.nn.functional import normalize

from regraft.errors import ParameterError
from regraft.evaluation.correlation import Correlation
from regraft.progress import progress_bar
from regraft.tables.embedding import CompressedEmbedding

Similarity = Literal["cosine", "inner"]
BLOCK = 1 << 14
FEWEST_PAIRS = 20
NORMAL = 1.96


@dataclass(frozen=True)
class WordPairs:
    """Rows (p, 2) of pairs of words, and how similar people find each (p,)."""

    rows: torch.Tensor
    gold: np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Truth:
    """What the plain table answers.

    Attributes
    ----------
    queries : rows that ask (q,). neighbours : the k nearest other rows of each, exactly (q, k).
    """

    weight: torch.Tensor
    queries: torch.Tensor
    neighbours: torch.Tensor
    similarity: Similarity
    pairs: WordPairs | None

    @classmethod
    def of(
        cls, weight: torch.Tensor, words: Sequence[str] | None, *, k: int, queries: int, similarity: Similarity = "cosine", seed: int = 0
    ) -> "Truth":
        """`queries` rows of `weight`, drawn by `seed`, with their nearest. Raises `ParameterError` for a table of too few rows."""
        live = torch.nonzero(weight.any(1)).squeeze(1)
        if len(live) < 2:
            raise ParameterError(f"a table with {len(live)} rows that are not all zero: nothing to compare")
        k = min(k, len(live) - 1)
        chosen = live[torch.randperm(len(live), generator=torch.Generator().manual_seed(seed))[:queries]]
        nearest = _nearest(weight[chosen], chosen, lambda ids: weight[ids], len(weight), k, similarity)
        return cls(weight, chosen, nearest, similarity, word_pairs(words))

    @torch.no_grad()
    def measure(self, table: CompressedEmbedding) -> dict[str, float | None]:
        """Recall of the k nearest with a 95 % interval over queries, error, mean cosine and the words' correlation of `table`."""
        table = table.eval()
        k = self.neighbours.shape[1]
        found = _nearest(self.weight[self.queries], self.queries, table, len(self.weight), k, self.similarity)
        hits = (found.unsqueeze(2) == self.neighbours.unsqueeze(1)).any(2).double().mean(1)
        spread = NORMAL * float(hits.std(correction=0)) / len(hits) ** 0.5
        recall = float(hits.mean())
        error, whole, cosine = 0.0, 0.0, 0.0
        for ids in torch.split(torch.arange(len(self.weight)), BLOCK):
            rows, here = self.weight[ids].double(), table(ids).double()
            error, whole = error + float((rows - here).square().sum()), whole + float(rows.square().sum())
            cosine += float((normalize(rows, dim=1) * normalize(here, dim=1)).sum())
        return {
            "recall": recall,
            "recall_low": max(0.0, recall - spread),
            "recall_high": min(1.0, recall + spread),
            "error": (error / whole) ** 0.5,
            "cosine": cosine / len(self.weight),
            "wordsim": None if self.pairs is None else correlation(self.pairs, table(self.pairs.rows)),
        }

    def plain(self) -> dict[str, float | None]:
        """The same figures of the plain table itself."""
        wordsim = None if self.pairs is None else correlation(self.pairs, self.weight[self.pairs.rows])
        return {"recall": 1.0, "recall_low": 1.0, "recall_high": 1.0, "error": 0.0, "cosine": 1.0, "wordsim": wordsim}


def _nearest(queries: torch.Tensor, own: torch.Tensor, rows_of: Any, count: int, k: int, similarity: Similarity) -> torch.Tensor:
    """The k rows (q, k) of `count` with the highest similarity to each of `queries`, without the query's own row `own`."""
    asked = normalize(queries, dim=1) if similarity == "cosine" else queries
    best = asked.new_full((len(asked), k), -torch.inf)
    ids = torch.full((len(asked), k), -1)
    with progress_bar("searching", total=count, unit="rows") as bar:
        for block in torch.split(torch.arange(count), BLOCK):
            rows = rows_of(block)
            scores = asked @ (normalize(rows, dim=1) if similarity == "cosine" else rows).T
            mine = torch.nonzero((own >= block[0]) & (own <= block[-1])).squeeze(1)
            scores[mine, own[mine] - block[0]] = -torch.inf
            top = torch.topk(scores, min(k, len(block)), dim=1)
            joined, places = torch.cat([best, top.values], 1), torch.cat([ids, block[top.indices]], 1)
            kept = torch.topk(joined, k, dim=1)
            best, ids = kept.values, places.gather(1, kept.indices)
            bar.advance(len(block))
    return ids


def word_pairs(words: Sequence[str] | None) -> WordPairs | None:
    """Pairs of WordSim-353 (a file of the package gensim) of which both words are known, in lower case; None for under 20 of them."""
    path = _wordsim()
    if words is None or path is None:
        return None
    index: dict[str, int] = {}
    for row, word in enumerate(words):
        index.setdefault(word.lower(), row)
    rows, gold = [], []
    with path.open(encoding="utf-8", newline="") as file:
        for line in csv.reader((line for line in file if not line.startswith("#")), delimiter="\t"):
            if len(line) == 3 and line[0].lower() in index and line[1].lower() in index:
                rows.append((index[line[0].lower()], index[line[1].lower()]))
                gold.append(float(line[2]))
    return WordPairs(torch.tensor(rows), np.array(gold)) if len(rows) >= FEWEST_PAIRS else None


def _wordsim() -> Path | None:
    try:
        from gensim.test.utils import datapath
    except ModuleNotFoundError:
        return None
    return Path(datapath("wordsim353.tsv"))


def correlation(pairs: WordPairs, vectors: torch.Tensor) -> float:
    """Spearman's rho of the cosines of `vectors` (p, 2, d) and what people say."""
    left, right = normalize(vectors.double(), dim=-1).unbind(1)
    return Correlation((left * right).sum(1).numpy()[None], pairs.gold).value
