"""ESA: concepts as TF-IDF rows of the texts that describe them, and an inverted index from words to concepts.

Enters: one article a concept. Leaves: weights (V, K) of words for concepts; texts become vectors (n, K) through them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.preprocessing import normalize

from regraft.errors import CorpusError

WINDOW, DROP = 100, 0.05  # entries, and share of a word's highest weight
WORDS = r"(?u)\b\w\w+\b"


@dataclass(frozen=True)
class Esa:
    """`words` (V): in the order of the rows. `idf` (V,): log(K / df). `weights` (V, K): of words for concepts, float32."""

    words: tuple[str, ...]
    idf: npt.NDArray[np.float32]
    weights: csr_array

    @cached_property
    def counter(self) -> CountVectorizer:
        return CountVectorizer(vocabulary={word: row for row, word in enumerate(self.words)}, token_pattern=WORDS)

    def vectors(self, texts: Sequence[str]) -> csr_array:
        r""":math:`s(t)_k = \sum_w (1 + \log tf_t(w)) \log(K/df_w) A_{w,k}`, sparse (n, K); a text without a known word is all zeros."""
        counted = csr_array(self.counter.transform(texts), dtype=np.float32)
        counted.data = (1 + np.log(counted.data)) * self.idf[counted.indices]
        return csr_array(counted @ self.weights)


def fit_esa(articles: Sequence[str], *, window: int = WINDOW, drop: float = DROP) -> Esa:
    """The space of `articles` (K), each concept's column of length 1; `window` 0 prunes nothing.

    Raises `CorpusError` where no article has a word that the others lack.
    """
    vectorizer = TfidfVectorizer(sublinear_tf=True, smooth_idf=False, norm=None, token_pattern=WORDS)
    try:
        vectorizer.fit(articles)
    except ValueError:
        raise CorpusError(f"{len(articles):,} concepts without a word in their texts") from None
    vectorizer.idf_ = vectorizer.idf_ - 1  # the library's is log(K / df) + 1
    columns = csr_array(normalize(vectorizer.transform(articles)))
    columns.eliminate_zeros()
    if not columns.nnz:
        raise CorpusError(f"every word stands in all of the {len(articles):,} concepts' texts: nothing tells them apart")
    weights = csr_array(columns.T, dtype=np.float32)
    return Esa(tuple(vectorizer.get_feature_names_out().tolist()), vectorizer.idf_.astype(np.float32), pruned(weights, window, drop))


def pruned(weights: csr_array, window: int = WINDOW, drop: float = DROP) -> csr_array:
    """Each word's concepts by falling weight, cut behind the first `window` of them that fall by less than `drop` of the highest.

    A word of fewer concepts than the window keeps all of them.
    """
    if window < 1:
        return weights
    lengths = np.diff(weights.indptr)
    row = np.repeat(np.arange(len(lengths)), lengths)
    order = np.lexsort((-weights.data, row))
    data, indices = weights.data[order], weights.indices[order]
    start, end = weights.indptr[row], weights.indptr[row + 1]
    place = np.arange(len(data))
    last = place + window - 1
    whole = last < end
    flat = whole & (data - data[np.where(whole, last, place)] < drop * data[start])
    cut = weights.indptr[1:].copy()  # first place that goes, of each word
    np.minimum.at(cut, row[flat], last[flat] + 1)
    kept = place < cut[row]
    ends = np.concatenate([[0], np.cumsum(np.bincount(row[kept], minlength=len(lengths)))])
    found = csr_array((data[kept], indices[kept], ends), shape=weights.shape)
    found.sort_indices()
    return found
