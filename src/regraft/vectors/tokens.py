"""Auxiliary vectors for the tokens of a vocabulary, wherever they come from.

Enters: word vectors that someone trained, or a donor model's table. Leaves: one float32 row per token id of a tokenizer, zero where there
is no vector, which is what FOCUS, WECHSEL, RAMEN and CLP-Transfer compare tokens by. `vector_training` makes such rows from the corpus.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import sparse

from regraft.checkpoint import Checkpoint
from regraft.errors import ParameterError
from regraft.graft import iterate_blocks
from regraft.graft.similarity import has_vector
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.overlap import match_tokens

Floats = npt.NDArray[np.float32]
WORDS = 100_000  # words that are cut at a time


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors by word.

    Attributes
    ----------
    words : n different words, most frequent first where nothing else is known.
    matrix : (n, d) float32.
    counts : (n,) how often each word occurred, or None.
    compose : makes vectors of words that are not listed, shape (words, d), from their character n-grams; None where the file has none.
    name : where they come from, for messages.
    """

    words: Sequence[str]
    matrix: Floats
    counts: npt.NDArray[np.float64] | None = None
    compose: Callable[[Sequence[str]], Floats] | None = None
    name: str = "vectors"
    basis: Floats | None = field(default=None, repr=False)  # maps composed vectors where `matrix` was mapped

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or len(self.words) != len(self.matrix) or not self.matrix.size:
            raise ParameterError(f"{self.name}: {len(self.words)} words for a table of shape {self.matrix.shape}: they must be as many")
        bad = np.flatnonzero(~np.isfinite(self.matrix).all(axis=1))
        if len(bad):
            raise ParameterError(f"{self.name}: the vector of '{self.words[int(bad[0])]}' holds NaN or infinity: remove or repair it")
        if not has_vector(self.matrix).any():
            raise ParameterError(f"{self.name}: every vector is zero: give trained vectors")

    @property
    def dim(self) -> int:
        return int(self.matrix.shape[1])

    @cached_property
    def index(self) -> dict[str, int]:
        """Word -> row; the first of equal words."""
        index: dict[str, int] = {}
        for row, word in enumerate(self.words):
            index.setdefault(word, row)
        return index

    def digest(self) -> str:
        """Hash of words, counts and vectors."""
        hashed = hashlib.blake2b("\0".join(self.words).encode("utf-8", "surrogatepass"), digest_size=20)
        for table in (self.matrix,) if self.counts is None else (self.matrix, self.counts):
            hashed.update(np.ascontiguousarray(table).data)
        return hashed.hexdigest()

    @property
    def frequencies(self) -> npt.NDArray[np.float64]:
        """Weight of each word, shape (n,): its count, or 1 / rank (Zipf's law over a list that is sorted by frequency)."""
        return self.counts if self.counts is not None else 1.0 / np.arange(1, len(self.words) + 1)

    def look_up(self, words: Sequence[str]) -> Floats:
        """Vectors of `words`, shape (len(words), d); zero for an unknown word that cannot be composed."""
        rows = np.fromiter((self.index.get(word, -1) for word in words), dtype=np.int64, count=len(words))
        out = np.where(rows[:, None] >= 0, self.matrix[np.maximum(rows, 0)], np.float32(0))
        missing = np.flatnonzero(rows < 0).tolist()
        if self.compose is not None and missing:
            composed = self.compose([words[i] for i in missing])
            out[missing] = composed if self.basis is None else composed @ self.basis
        return out.astype(np.float32, copy=False)

    def mapped(self, basis: Floats) -> "Vectors":
        """The same words in another space: every vector times `basis`, shape (d, new d)."""
        whole = basis if self.basis is None else self.basis @ basis
        return replace(self, matrix=(self.matrix @ basis).astype(np.float32), basis=whole.astype(np.float32))

    def with_prefix(self, prefix: str) -> "Vectors":
        """Only the words that start with `prefix` ("vi:"), without it. Raises `ParameterError` if there is none."""
        rows = [row for row, word in enumerate(self.words) if word.startswith(prefix)]
        if not rows:
            raise ParameterError(f"{self.name}: no word starts with '{prefix}': check the language prefix")
        counts = None if self.counts is None else self.counts[rows]
        words = [self.words[row].removeprefix(prefix) for row in rows]
        return Vectors(words, self.matrix[rows], counts, name=self.name)  # n-grams would be those of the prefix too


def vectors_by_look_up(tokenizer: Tokenizer, vectors: Vectors) -> Floats:
    """One look-up per token: the vector of its text without surrounding space, shape (vocab_size, d).

    Special tokens and tokens that are not whole characters get zero rows.
    """
    texts = [token_text(tokenizer, i) for i in range(tokenizer.vocab_size)]
    wanted = [i for i, text in enumerate(texts) if text]
    out = np.zeros((tokenizer.vocab_size, vectors.dim), dtype=np.float32)
    out[wanted] = vectors.look_up([texts[i] for i in wanted])
    return out


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """Text of a token without surrounding space; empty for special tokens and broken characters."""
    if tokenizer.is_special(token):
        return ""
    try:
        return tokenizer.surface(token).decode("utf-8").strip()
    except UnicodeDecodeError:
        return ""


def vectors_by_words(
    tokenizer: Tokenizer, vectors: Vectors, *, max_words: int | None = None, frequencies: npt.NDArray[np.float64] | None = None
) -> Floats:
    """Mean vector of the words whose tokenization holds the token, shape (vocab_size, d).

    Each word is cut on its own and with a leading space; a token counts once a spelling. Words weigh `frequencies` (default: those of
    `vectors`); only the first `max_words` are used.
    """
    words = list(vectors.words[:max_words])
    weights = (vectors.frequencies if frequencies is None else frequencies)[: len(words)]
    counts = words_of_tokens(tokenizer, (words, [f" {word}" for word in words]))
    return weighted_means(counts, weights, vectors.matrix[: len(words)])


def words_of_tokens(tokenizer: Tokenizer, spellings: Sequence[Sequence[str]]) -> sparse.csr_matrix:
    """In how many of its spellings each word holds each token, shape (vocab_size, words); empty rows for special tokens and holes.

    `spellings` are lists over the same words; a token that one spelling holds twice counts once, and an empty spelling holds none.
    """
    width = len(spellings[0])
    total = sparse.csr_matrix((tokenizer.vocab_size, width))
    for spelling in spellings:
        parts = [_held(tokenizer, spelling[block]) for block in iterate_blocks(width, WORDS)]
        total = total + (sparse.hstack(parts, format="csr") if parts else total)
    left_out = [i for i in (*tokenizer.special_ids, tokenizer.unknown_id) if i is not None and i < tokenizer.vocab_size]
    keep = np.ones(tokenizer.vocab_size)
    keep[left_out] = 0
    total = sparse.csr_matrix(sparse.diags(keep) @ total)
    total.eliminate_zeros()
    return total


def _held(tokenizer: Tokenizer, words: Sequence[str]) -> sparse.csr_matrix:
    """Which tokens each word holds, ones of shape (vocab_size, words)."""
    ids = tokenizer.encode_batch(words)
    columns = np.repeat(np.arange(len(ids)), [len(line) for line in ids])
    rows = np.fromiter((i for line in ids for i in line), dtype=np.int64, count=len(columns))
    pairs = np.unique(rows * len(words) + columns)
    places = (pairs // len(words), pairs % len(words))
    return sparse.csr_matrix((np.ones(len(pairs)), places), shape=(tokenizer.vocab_size, len(words)))


def weighted_means(counts: sparse.csr_matrix, weights: npt.NDArray[np.float64], matrix: Floats) -> Floats:
    """Mean over words of `matrix` (words, d) for each row of `counts` (tokens, words), each word weighing `weights`; zero where none."""
    total = sparse.csr_matrix(counts @ sparse.diags(weights))
    mass = np.asarray(total.sum(axis=1)).ravel()
    mean = total @ matrix
    return np.asarray(np.divide(mean, mass[:, None], out=np.zeros(mean.shape), where=mass[:, None] > 0), dtype=np.float32)


def donor_vectors(donor: Path, tokenizer: Tokenizer) -> Floats:
    """Rows of a donor model's input table for the tokens that its vocabulary shares with `tokenizer`, shape (vocab_size, d of the donor).

    Raises `ParameterError` if the vocabularies share no token.
    """
    checkpoint = Checkpoint.open(donor, vocabulary=True)
    owner = Tokenizer.from_directory(checkpoint.path)
    ids = match_tokens(owner, tokenizer)
    ids[ids >= checkpoint.layout.rows] = -1
    if not (ids >= 0).any():
        raise ParameterError(f"{donor}: the donor's vocabulary has none of the wanted tokens: give a model with the new tokenizer")
    table = checkpoint.read(checkpoint.layout.input[0]).float().numpy()
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if len(bad):
        raise ParameterError(f"{donor}: row {int(bad[0])} of the donor's table holds NaN or infinity: repair the donor")
    return np.asarray(np.where(ids[:, None] >= 0, table[np.maximum(ids, 0)], np.float32(0)), dtype=np.float32)
