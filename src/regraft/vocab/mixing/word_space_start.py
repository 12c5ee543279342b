"""What OFA and HyperOFA share: tokens in a space of word vectors, copies that ignore case, tables cut to a rank.

Enters: source, target, and the words that the user gave. Leaves: an `Alignment`, which says of each new token whether it is a copy, has a
vector, or neither.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from scipy import sparse

from regraft.errors import ParameterError
from regraft.graft import Graft
from regraft.graft.factors import Factors, Split, factorise
from regraft.graft.similarity import Floats, has_vector
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.overlap import match_ignoring_case
from regraft.vectors.tokens import weighted_means
from regraft.vectors.training import VectorTraining
from regraft.vocab.initializer import Context, Initializer, Source, Target
from regraft.vocab.mixing.fallback import Ids
from regraft.vocab.mixing.word_space import Keys, WordSpace, open_word_space

LISTED = 8  # languages that the note on coverage names


class WordSpaceStart(Initializer):
    """A start that knows tokens by the words they occur in. The fields are explained at `OFA`."""

    rank: Annotated[int, Field(ge=1)] | None = None
    split: Split = "paper"
    copy: Literal["fuzzy", "exact"] = "fuzzy"
    auxiliary: Literal["vectors", "corpus"] = "vectors"
    keys: Keys = "words"
    source_languages: str | None = None
    target_languages: str | None = None
    spellings: Annotated[int, Field(ge=1, le=3)] = 3
    bias: Literal["zero", "mixed"] = "zero"
    fallback: Literal["constituent-mean", "normal"] = "constituent-mean"
    dim: Annotated[int, Field(ge=1)] = 100
    epochs: Annotated[int, Field(ge=1)] = 10
    window: Annotated[int, Field(ge=1)] = 5
    negative: Annotated[int, Field(ge=1)] = 10
    min_count: Annotated[int, Field(ge=1)] = 5

    def factorise(self, table: torch.Tensor) -> Factors | None:
        if self.rank is None or self.rank == table.shape[1]:
            return None
        if self.rank > table.shape[1]:
            raise ParameterError(
                f"{self.name}: rank={self.rank}, but the table has {table.shape[1]} dimensions: choose 1 to {table.shape[1]}"
            )
        return factorise(table, self.rank, self.split)

    def new_bias(self, graft: Graft, bias: torch.Tensor) -> torch.Tensor | None:
        if self.bias == "mixed":
            return None
        return graft.apply(bias).masked_fill(torch.from_numpy(~graft.copied()), 0.0)

    def align(self, source: Source, target: Target, context: Context) -> "Alignment":
        """Both vocabularies in the space of the words; what is covered goes to the notes. Once for all tables."""
        return context.remember(f"alignment {self!r}", lambda: self._align(source, target, context))

    def _align(self, source: Source, target: Target, context: Context) -> "Alignment":
        training = VectorTraining(
            model="skipgram", dim=self.dim, epochs=self.epochs, window=self.window, negative=self.negative,
            min_count=self.min_count, max_n=0,
        )  # fmt: skip
        space = open_word_space(context, self.name, self.auxiliary, self.keys, training)
        old = align_tokens(space.only(self.source_languages), source.tokenizer, self.spellings).first(source.vocab_size)
        new_words = space.only(self.target_languages)
        new = align_tokens(new_words, target.tokenizer, self.spellings)
        if not has_vector(old.vectors).any():
            raise ParameterError(f"{self.name}: {space.name} has words of none of the old tokens: are they in the old language?")
        copies = match_ignoring_case(source.tokenizer, target.tokenizer, target.ids) if self.copy == "fuzzy" else np.full(len(target), -1)
        found = Alignment(old, new, target.ids, copies)
        context.notes.append(coverage(self.name, target, found, new_words))
        return found


@dataclass(frozen=True, eq=False)
class AlignedTokens:
    """The tokens of one vocabulary among words.

    Attributes
    ----------
    held : (vocab_size, words) spellings of each word that hold the token.
    vectors : (vocab_size, d) the plain mean over those words and spellings; zero for a token that no word holds.
    matrix : (words, d) the words' own vectors.
    """

    held: sparse.csr_matrix
    vectors: Floats
    matrix: Floats

    def first(self, tokens: int) -> "AlignedTokens":
        return AlignedTokens(sparse.csr_matrix(self.held[:tokens]), self.vectors[:tokens], self.matrix)


def align_tokens(space: WordSpace, tokenizer: Tokenizer, spellings: int) -> AlignedTokens:
    """Put the tokens of a vocabulary into the space of word vectors."""
    held = space.held_by(tokenizer, spellings)
    return AlignedTokens(held, weighted_means(held, np.ones(len(space.words)), space.matrix), space.matrix)


@dataclass(frozen=True, eq=False)
class Alignment:
    """`old` and `new` vocabulary among the words; `ids` (m,) of the new tokens; `copies` (m,): the old id to copy, or -1."""

    old: AlignedTokens
    new: AlignedTokens
    ids: Ids
    copies: Ids

    @property
    def copied(self) -> Ids:
        """Which of the new tokens are copies."""
        return np.flatnonzero(self.copies >= 0)

    @property
    def covered(self) -> Ids:
        """Which of the new tokens are no copies and have a vector."""
        return np.flatnonzero((self.copies < 0) & has_vector(self.new.vectors[self.ids]))

    @property
    def candidates(self) -> Ids:
        """Old tokens that have a vector."""
        return np.flatnonzero(has_vector(self.old.vectors))

    def copying(self, columns: int) -> sparse.csr_matrix:
        """Weights (new tokens, old tokens) of the copies alone."""
        copied = self.copied
        return sparse.csr_matrix((np.ones(len(copied)), (copied, self.copies[copied])), shape=(len(self.ids), columns))


def coverage(method: str, target: Target, found: Alignment, words: WordSpace) -> str:
    """One line: how many rows were copied, combined, neither; and the same by the languages of the words that hold the tokens."""
    shared, copied, covered = np.flatnonzero(target.source_ids >= 0), found.copied, found.covered
    rest = len(target) - len(copied) - len(covered)
    line = (
        f"{method}: of {len(shared) + len(target):,} tokens {len(shared):,} copied, {len(copied):,} copied ignoring case, "
        f"{len(covered):,} combined, {rest:,} without a vector"
    )
    languages, owner = np.unique(words.languages, return_inverse=True)
    if len(languages) < 2:
        return line
    membership = sparse.csr_matrix((np.ones(len(owner)), (np.arange(len(owner)), owner)), shape=(len(owner), len(languages)))
    known = sparse.csr_matrix(found.new.held @ membership) > 0
    groups = (np.concatenate([shared, target.ids[copied]]), target.ids[covered])
    both = [np.asarray(known[ids].sum(axis=0)).ravel().astype(int) for ids in groups]
    order = np.argsort(-(both[0] + both[1]), kind="stable")
    parts = [f"{languages[i]} {both[0][i]:,} copied, {both[1][i]:,} combined" for i in order[:LISTED].tolist()]
    more = f"; and {len(languages) - LISTED:,} more" if len(languages) > LISTED else ""
    return f"{line} (by language of their words: {'; '.join(parts)}{more})"
