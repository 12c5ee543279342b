"""Words of one or many languages with vectors in one space, and which tokens of a vocabulary they are spelled with.

Enters: what the user gave: a multilingual file with keys like ``vie:nước``, a file in one language, two files that a dictionary aligns, or
the corpus. Leaves: words with their languages and vectors (OFA's *W*), and counts of which word holds which token in which spelling.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import regex
from scipy import sparse

from regraft.errors import ParameterError
from regraft.graft import iterate_blocks
from regraft.tokenizer import Tokenizer
from regraft.vectors.alignment import align_vectors, read_dictionary
from regraft.vectors.files import open_vectors
from regraft.vectors.tokens import WORDS, Vectors, words_of_tokens
from regraft.vectors.training import VectorTraining, train_word_vectors
from regraft.vocab.initializer import Context

Floats = npt.NDArray[np.float32]
Keys = Literal["words", "language:word"]
LANGUAGE = regex.compile(r"([a-z]{2,3}(?:[-_][A-Za-z]{2,8})*):(.+)", flags=regex.DOTALL)
ENGLISH = "eng"  # the language of keys without a prefix in a file that has prefixes
LOOKED_AT = 1000  # words of a file, to see whether they name their languages
EDGE = "$"  # the mark of a word's edge in such files


@dataclass(frozen=True, eq=False)
class WordSpace:
    """`words` with the `languages` (n,) they belong to ("" where a file does not say) and their vectors `matrix`, (n, d) float32."""

    words: list[str]
    languages: npt.NDArray[np.str_]
    matrix: Floats
    name: str

    @classmethod
    def of_vectors(cls, vectors: Vectors, keys: Keys = "words", language: str = "") -> "WordSpace":
        """The words of one file. With `keys` "language:word", prefixes name the language, and "$" marks a word's edge as a space would.

        Raises `ParameterError` where "words" have such prefixes, which no text has.
        """
        if keys == "words":
            sample = vectors.words[:LOOKED_AT]
            if 2 * sum(LANGUAGE.fullmatch(word) is not None for word in sample) > len(sample):
                raise ParameterError(
                    f"{vectors.name}: words such as {sample[-1]!r} begin with a language: read them so with --set keys=language:word"
                )
            return cls(list(vectors.words), np.full(len(vectors.words), language), vectors.matrix, vectors.name)
        found = [LANGUAGE.fullmatch(word) for word in vectors.words]
        words = [match[2] if match else word for match, word in zip(found, vectors.words, strict=True)]
        # a space behind a word would be a token of its own, which says nothing of the word
        words = [word.replace(EDGE, " ").rstrip(" ") for word in words]
        return cls(words, np.array([match[1] if match else ENGLISH for match in found]), vectors.matrix, vectors.name)

    @classmethod
    def of_pair(cls, source: Vectors, target: Vectors) -> "WordSpace":
        """The words of two files that are in one space, as the languages "source" and "target"."""
        languages = np.repeat(["source", "target"], [len(source.words), len(target.words)])
        matrix = np.concatenate([source.matrix, target.matrix])
        return cls([*source.words, *target.words], languages, matrix, f"{source.name} and {target.name}")

    def only(self, languages: str | None) -> "WordSpace":
        """Words of these languages (separated by commas), or all. Raises `ParameterError` where there are none."""
        if languages is None:
            return self
        wanted = [part.strip() for part in languages.split(",")]
        rows = np.flatnonzero(np.isin(self.languages, wanted))
        if not len(rows):
            known = ", ".join(repr(str(name)) for name in np.unique(self.languages)[:8])
            raise ParameterError(f"{self.name}: no word in the languages '{languages}': the file has {known}")
        return WordSpace([self.words[i] for i in rows.tolist()], self.languages[rows], self.matrix[rows], self.name)

    def held_by(self, tokenizer: Tokenizer, spellings: int = 3) -> sparse.csr_matrix:
        """In how many of its first `spellings` spellings each word holds each token, shape (vocab_size, words)."""
        blocks = (self.words[block] for block in iterate_blocks(len(self.words), WORDS))  # millions of words, three spellings each
        return sparse.csr_matrix(sparse.hstack([words_of_tokens(tokenizer, spell_words(words)[:spellings]) for words in blocks]))


def spell_words(words: Sequence[str]) -> list[list[str]]:
    """The three spellings that running text may have of each word: as it is, behind a space, and capitalized behind a space.

    A word that itself begins with the space of a word's edge has no second spelling ("").
    """
    marked = [word.startswith(" ") for word in words]
    bare = [word[1:] if edge else word for word, edge in zip(words, marked, strict=True)]
    return [
        list(words),
        ["" if edge else f" {word}" for word, edge in zip(words, marked, strict=True)],
        [f" {word[:1].upper()}{word[1:]}" for word in bare],
    ]


def open_word_space(context: Context, method: str, auxiliary: str, keys: Keys, training: VectorTraining) -> WordSpace:
    """The words with vectors that the user gave (`auxiliary` "vectors") or that the corpus gives ("corpus"); read once for all methods.

    Raises `ParameterError`: no vectors, or two files of different dimensions without a dictionary; `CorpusError`: too little text.
    """
    if auxiliary == "corpus":
        key = f"word vectors {training} {context.seed}"
        return context.remember(
            key, lambda: WordSpace.of_vectors(train_word_vectors(context.texts(method), training, context.seed), "words")
        )
    aids = context.aids

    def read() -> WordSpace:
        file = aids.need("vectors", method)
        if aids.source_vectors is None:
            return WordSpace.of_vectors(open_vectors(file), keys)
        dictionary = None if aids.dictionary is None else read_dictionary(aids.dictionary)
        return WordSpace.of_pair(*align_vectors(open_vectors(aids.source_vectors), open_vectors(file), dictionary, context.notes))

    return context.remember(f"word space {keys}", read)
