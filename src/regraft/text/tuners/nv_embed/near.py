"""BM25 over a pool of texts: hard negatives for sentence pairs, and training texts that are evaluation texts again."""

import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, diags
from sklearn.feature_extraction.text import CountVectorizer

K1, B = 1.5, 0.75
AT_ONCE = 512  # queries


class Bm25:
    """Scores of texts against `pool`; a word counts as often as it stands in the query."""

    def __init__(self, pool: Sequence[str]) -> None:
        self.words = CountVectorizer(token_pattern=r"(?u)\b\w+\b")
        counts = self._counts(pool, fit=True)
        self.mean_length = max(1.0, counts.sum() / max(1, len(pool)))
        seen = np.asarray((counts > 0).sum(0)).ravel()
        self.idf = np.log1p((len(pool) - seen + 0.5) / (seen + 0.5))
        self.weights = self._weighted(counts)

    def _counts(self, texts: Sequence[str], *, fit: bool = False) -> csr_matrix:
        try:
            found = self.words.fit_transform(texts) if fit else self.words.transform(texts)
        except ValueError:  # no text has a word
            self.words.fit(["none"])
            found = self.words.transform(texts)
        return csr_matrix(found, dtype=np.float64)

    def _weighted(self, counts: csr_matrix) -> csr_matrix:
        lengths = np.asarray(counts.sum(1)).ravel()
        base = K1 * (1 - B + B * lengths / self.mean_length)
        found = counts.copy()
        found.data = found.data * (K1 + 1) / (found.data + np.repeat(base, np.diff(found.indptr)))
        return csr_matrix(found @ diags(self.idf))

    def scores(self, texts: Sequence[str]) -> Iterator[npt.NDArray[np.float64]]:
        """(block, pool), block by block."""
        for start in range(0, len(texts), AT_ONCE):
            yield (self._counts(texts[start : start + AT_ONCE]) @ self.weights.T).toarray()

    def own(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """What each text would score against itself, (n,)."""
        counts = self._counts(texts)
        return np.asarray(counts.multiply(self._weighted(counts)).sum(1)).ravel()


def plain(text: str) -> str:
    """A text as it is compared: words in lower case."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def repeated(texts: Sequence[str], held_out: Sequence[str], share: float) -> npt.NDArray[np.bool_]:
    """Which of `texts` are in `held_out`, word for word, or score there at least `share` of what they score against themselves."""
    known = {plain(text) for text in held_out}
    exact = np.array([plain(text) in known for text in texts], dtype=bool)
    if share >= 1 or not len(texts):
        return exact
    index = Bm25(held_out)
    # a word that no held-out text has counts as the rarest one, so a text is near only if the other has nearly all its words
    best = np.concatenate([block.max(1) for block in index.scores(texts)])
    own = index.own(texts)
    missing = np.array([len(plain(text).split()) for text in texts]) - np.asarray(index._counts(texts).sum(1)).ravel()
    own = own + missing * (index.idf.max() if len(index.idf) else 0.0)
    return np.asarray(exact | ((own > 0) & (best >= share * own)))
