"""WECHSEL: a new token is mixed from the old tokens that mean the same, by word vectors of both languages."""

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from regraft.errors import ParameterError
from regraft.graft import Graft, Rows
from regraft.graft.moments import mean_and_std
from regraft.graft.similarity import Floats, has_vector, softmax_nearest
from regraft.method import Paper
from regraft.tokenizer import Tokenizer
from regraft.vectors.alignment import align_vectors, read_dictionary
from regraft.vectors.files import open_vectors
from regraft.vectors.tokens import Vectors, vectors_by_look_up, vectors_by_words
from regraft.vocab.initializer import Context, Initializer, Source, Target
from regraft.vocab.mixing.fallback import Ids, complete, empty_rows, over_old, redraw
from regraft.vocab.mixing.uncovered import report_uncovered


class Wechsel(Initializer):
    r"""Nearest old tokens in aligned word vectors: :math:`e_t = \sum_{s \in N_k(t)} w_s E_s`.

    :math:`w = \mathrm{softmax}(\cos(u_t, u_s) / \tau)` over the k nearest. ``--source-vectors`` and ``--vectors`` are brought into one
    space by the pairs of ``--dictionary`` (orthogonal Procrustes, each pair in 3 x 3 case variants, the wider set first reduced to the
    narrower); without a dictionary they are taken to be in one space already. Each tokenizer's tokens then get vectors *u* from their own
    language's words.

    The paper mixes every token but the special ones. Here the tokens that both tokenizers have (the same bytes in the same place of a word)
    are copied before any method runs, so that only the others are mixed; they still are candidates to be mixed from.

    Parameters
    ----------
    k : nearest old tokens, >= 1.
    temperature : :math:`\tau` of the softmax, > 0.
    subwords : how a token gets a vector. "ngrams": that of its text without surrounding space, from character n-grams where the file has
        them (fastText ``.bin``), else by look-up. "words": mean of the words whose tokenization holds it (with and without a leading
        space), weighted by their frequency (1 / rank where the file counts none). "auto": "ngrams" for files that have them.
    prefix, source_prefix : language prefixes of the words in the two files.
    fallback : tokens without a vector: "constituent-mean", or "normal" as in the paper, which gives rows instead of a graft.

    Returns a graft of shape (new tokens, old tokens) with positive rows that sum to 1. Raises `ParameterError`: no usable pair in the
    dictionary, different dimensions without one, fewer than `k` old tokens with a vector, no new token with one.
    """

    paper = Paper(
        "WECHSEL: Effective initialization of subword embeddings for cross-lingual transfer of monolingual language models",
        "Minixhofer et al.",
        2022,
        "2112.06598",
    )
    summary = "mixed from the old tokens nearest in aligned word vectors"
    needs: ClassVar[tuple[str, ...]] = ("vectors", "source_vectors")

    k: Annotated[int, Field(ge=1)] = 10
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    subwords: Literal["auto", "ngrams", "words"] = "auto"
    prefix: str | None = None
    source_prefix: str | None = None
    fallback: Literal["constituent-mean", "normal"] = "constituent-mean"

    def __call__(self, source: Source, target: Target, context: Context) -> Graft | Rows:
        graft, missing = context.remember(repr(self), lambda: self._mix(source, target, context))
        if self.fallback == "normal" and len(missing):
            return redraw(graft, missing, source, context, *mean_and_std(source.table))
        return graft

    def _mix(self, source: Source, target: Target, context: Context) -> tuple[Graft, Ids]:
        """The graft, and which of its rows had no vector."""
        old_words, new_words = aligned_aids(context, self.name, self.prefix, self.source_prefix)
        old = self._token_vectors(source.tokenizer, old_words)[: source.vocab_size]
        new = self._token_vectors(target.tokenizer, new_words)[target.ids]
        candidates, rows = np.flatnonzero(has_vector(old)), np.flatnonzero(has_vector(new))
        if not len(candidates):
            raise ParameterError(f"{self.name}: {old_words.name} has a vector for none of the old tokens: is it in the old language?")
        nearest = softmax_nearest(new[rows], old[candidates], self.k, self.temperature)
        weights = over_old(nearest, rows, candidates, (len(target), source.vocab_size))
        missing = empty_rows(weights)
        lacking = f"{self.name}: {new_words.name} has no vector"
        report_uncovered(missing, target, context, lacking, "give vectors in the new tokenizer's language", self.fallback)
        return complete(weights, target), missing

    def _token_vectors(self, tokenizer: Tokenizer, vectors: Vectors) -> Floats:
        ngrams = vectors.compose is not None if self.subwords == "auto" else self.subwords == "ngrams"
        return vectors_by_look_up(tokenizer, vectors) if ngrams else vectors_by_words(tokenizer, vectors)


def aligned_aids(context: Context, method: str, prefix: str | None, source_prefix: str | None) -> tuple[Vectors, Vectors]:
    """The user's source and target vectors in one space, by the user's dictionary if there is one; read once for all methods."""
    aids = context.aids
    new_file, old_file = aids.need("vectors", method), aids.need("source_vectors", method)

    def read() -> tuple[Vectors, Vectors]:
        dictionary = None if aids.dictionary is None else read_dictionary(aids.dictionary)
        return align_vectors(open_vectors(old_file, source_prefix), open_vectors(new_file, prefix), dictionary, context.notes)

    return context.remember(f"aligned vectors {prefix} {source_prefix}", read)
