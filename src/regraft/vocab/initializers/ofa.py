"""OFA: new rows are mixed from old tokens whose words mean alike in any language, over a table that may be cut to few dimensions."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy import sparse

from regraft.errors import ParameterError
from regraft.factorised import Factors, Split, factorise
from regraft.graft import Graft, Rows
from regraft.method import Paper
from regraft.vocab.fallback import Ids, complete, empty_rows, over_old, redraw
from regraft.vocab.initializer import Context, Initializer, Source, Target
from regraft.vocab.moments import mean_and_std
from regraft.vocab.overlap import match_ignoring_case
from regraft.vocab.similarity import Floats, has_vector, softmax_nearest
from regraft.vocab.tokenizer import Tokenizer
from regraft.vocab.vector_training import VectorTraining
from regraft.vocab.vectors import weighted_means
from regraft.vocab.word_space import Keys, WordSpace, open_word_space

LISTED = 8  # languages that the note on coverage names


class OFA(Initializer):
    r"""One For All: :math:`e_t = \sum_{s \in N_k(t)} w_s E_s`, :math:`w = \mathrm{softmax}(\cos(u_t, u_s) / \tau)` over the k nearest.

    A token's vector *u* is the plain mean of the vectors of the words that hold it, each word spelled as it is, behind a space, and
    capitalized behind a space (a word that holds the token in two spellings counts twice). Words come from ``--vectors``, one file with
    vectors of all languages in one space, or the new language's, with ``--source-vectors`` for the old one (aligned by ``--dictionary``,
    else taken to be in one space); both tokenizers cut all of them. Tokens that both tokenizers have are copied before any method runs;
    then a token that differs from an old one only by case is copied; tokens without a vector fall back.

    With a `rank` below the table's dimension, :math:`E \approx F P` by the uncentred SVD, the same weights mix rows of *F*, and the model
    keeps *F* and *P* (shared between embedding and head where they are tied) instead of *E*: all rows, copied ones too, are then cut to
    the span of *P*. The checkpoint is smaller; `regraft export` makes an ordinary one of it.

    Parameters
    ----------
    rank : D', 1 to the table's dimension; None or the dimension leaves the table whole.
    split : which factor carries the singular values: "paper" (*P*), or "balanced" (each their square root), for training with Adam.
    k : nearest old tokens.
    temperature : :math:`\tau`.
    copy : "fuzzy" also copies tokens that differ by case, "exact" does not.
    auxiliary : "vectors" reads the files named above, "corpus" trains word vectors on the corpus (both vocabularies must then be of it).
    keys : "words", or "language:word" for files with keys like ``vie:nước`` (no prefix: English; "$" marks a word's edge).
    source_languages, target_languages : languages, separated by commas, whose words the old and the new tokenizer's tokens are looked up
        in; None is all. With two files the languages are "source" and "target".
    spellings : how many of the three spellings of a word are cut.
    bias : output biases of new tokens: "zero", or "mixed" by the same weights.
    fallback : tokens without a vector: "constituent-mean", so that the result stays a graft, or as in the paper "normal", drawn from
        :math:`N(\bar F, \mathrm{std}(F))` per dimension; the result is then rows.
    dim, epochs, window, negative, min_count : of the word vectors trained on the corpus.

    Returns a graft of shape (new tokens, old tokens) with non-negative rows that sum to 1. Raises `ParameterError`: no vectors, none of
    the old tokens has one, fewer than `k` have, a rank above the dimension.
    """

    paper = Paper(
        "OFA: A Framework of Initializing Unseen Subword Embeddings for Efficient Large-scale Multilingual Continued Pretraining",
        "Liu et al.",
        2024,
        "2311.08849",
    )
    summary = "mixed by multilingual word vectors, over tables that may be factorised"
    needs: ClassVar[tuple[str, ...]] = ("vectors",)

    rank: Annotated[int, Field(ge=1)] | None = None
    split: Split = "paper"
    k: Annotated[int, Field(ge=1)] = 10
    temperature: Annotated[float, Field(gt=0)] = 0.1
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

    def __call__(self, source: Source, target: Target, context: Context) -> Graft | Rows:
        graft, missing = context.remember(repr(self), lambda: self._mix(source, target, context))
        if self.fallback == "normal" and len(missing):
            return redraw(graft, missing, source, context, *mean_and_std(source.table))
        return graft

    def factorise(self, table: torch.Tensor) -> Factors | None:
        return cut_to_rank(table, self.rank, self.split, self.name)

    def new_bias(self, graft: Graft, bias: torch.Tensor) -> torch.Tensor | None:
        return torch.zeros(graft.shape[0], dtype=bias.dtype) if self.bias == "zero" else None

    def _mix(self, source: Source, target: Target, context: Context) -> tuple[Graft, Ids]:
        """The graft, and which of its rows had no vector."""
        space = open_word_space(context, self.name, self.auxiliary, self.keys, self.word_training)
        old = align_tokens(space.only(self.source_languages), source.tokenizer, self.spellings).vectors[: source.vocab_size]
        aligned = align_tokens(space.only(self.target_languages), target.tokenizer, self.spellings)
        new, shape = aligned.vectors[target.ids], (len(target), source.vocab_size)
        candidates = np.flatnonzero(has_vector(old))
        if not len(candidates):
            raise ParameterError(f"{self.name}: {space.name} has words of none of the old tokens: are they in the old language?")
        copies = match_ignoring_case(source.tokenizer, target.tokenizer, target.ids) if self.copy == "fuzzy" else np.full(len(target), -1)
        copied, rows = np.flatnonzero(copies >= 0), np.flatnonzero((copies < 0) & has_vector(new))
        weights = sparse.csr_matrix((np.ones(len(copied)), (copied, copies[copied])), shape=shape)
        nearest = softmax_nearest(new[rows], old[candidates], self.k, self.temperature)
        weights = sparse.csr_matrix(weights + over_old(nearest, rows, candidates, shape))
        context.notes.append(coverage(self.name, target, copied, rows, aligned, space.only(self.target_languages)))
        return complete(weights, target), empty_rows(weights)

    @property
    def word_training(self) -> VectorTraining:
        return VectorTraining(
            model="skipgram", dim=self.dim, epochs=self.epochs, window=self.window, negative=self.negative,
            min_count=self.min_count, max_n=0,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class AlignedTokens:
    """`held` (vocab_size, words): spellings of each word that hold the token; `vectors` (vocab_size, d): the plain mean over them."""

    held: sparse.csr_matrix
    vectors: Floats


def align_tokens(space: WordSpace, tokenizer: Tokenizer, spellings: int) -> AlignedTokens:
    """Put the tokens of a vocabulary into the space of word vectors; zero rows for tokens that no word holds."""
    held = space.held_by(tokenizer, spellings)
    return AlignedTokens(held, weighted_means(held, np.ones(len(space.words)), space.matrix))


def cut_to_rank(table: torch.Tensor, rank: int | None, split: Split, method: str) -> Factors | None:
    """The factors of `table` (n, d) at `rank`, or None where the rank is the dimension (the table stays whole)."""
    if rank is None or rank == table.shape[1]:
        return None
    if rank > table.shape[1]:
        raise ParameterError(f"{method}: rank={rank}, but the table has {table.shape[1]} dimensions: choose 1 to {table.shape[1]}")
    return factorise(table, rank, split)


def coverage(method: str, target: Target, copied: Ids, combined: Ids, aligned: AlignedTokens, space: WordSpace) -> str:
    """One line: how many rows were copied, combined, neither; and the same by the languages of the words that hold the tokens."""
    shared = int((target.source_ids >= 0).sum())
    rest = len(target) - len(copied) - len(combined)
    line = (
        f"{method}: of {shared + len(target):,} tokens {shared:,} copied, {len(copied):,} copied ignoring case, "
        f"{len(combined):,} combined, {rest:,} without a vector"
    )
    languages, owner = np.unique(space.languages, return_inverse=True)
    if len(languages) < 2:
        return line
    membership = sparse.csr_matrix((np.ones(len(owner)), (np.arange(len(owner)), owner)), shape=(len(owner), len(languages)))
    known = sparse.csr_matrix(aligned.held @ membership) > 0
    all_copied = np.concatenate([np.flatnonzero(target.source_ids >= 0), target.ids[copied]])
    both = [np.asarray(known[ids].sum(axis=0)).ravel().astype(int) for ids in (all_copied, target.ids[combined])]
    order = np.argsort(-(both[0] + both[1]), kind="stable")
    parts = [f"{languages[i]} {both[0][i]:,} copied, {both[1][i]:,} combined" for i in order[:LISTED].tolist()]
    more = f"; and {len(languages) - LISTED:,} more" if len(languages) > LISTED else ""
    return f"{line} (by language of their words: {'; '.join(parts)}{more})"
