"""RAMEN: a new token is mixed from the old tokens it translates to, by parallel text or by aligned word vectors."""

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy import sparse

from regraft.errors import CorpusError, ParameterError
from regraft.graft import Graft, Rows
from regraft.graft.similarity import Floats, has_vector, sparsemax_cosine
from regraft.method import Paper
from regraft.tokenizer import Tokenizer
from regraft.vectors.tokens import Vectors, vectors_by_words
from regraft.vectors.word_alignment import Aligner, link_counts, read_bitext
from regraft.vocab.initializer import Context, Initializer, Source, Target
from regraft.vocab.initializers.wechsel import aligned_aids
from regraft.vocab.mixing.fallback import Ids, complete, empty_rows, normalized, over_old, redraw
from regraft.vocab.mixing.uncovered import report_uncovered


class Ramen(Initializer):
    r"""Translation probabilities over old subwords: :math:`e_f = \sum_e p(e \mid f)\,E_e`, :math:`b_f = \sum_e p(e \mid f)\,b_e`.

    From ``--bitext``: both sides are cut by their own tokenizer, each new token is linked to its most probable old token by IBM models, and
    :math:`p(e \mid f)` is the share of *f*'s links. From ``--source-vectors`` and ``--vectors`` (aligned by ``--dictionary`` if given): a
    subword's vector is the mean of the words whose tokenization holds it, weighted by 1 / rank, and :math:`p(\cdot \mid f)` is the
    sparsemax of its cosine to all old subwords (its 1,024 nearest, where it would be more).

    The paper makes a table of its own for the new language; here tokens that both tokenizers have, special ones too, are copied before any
    method runs.

    Parameters
    ----------
    route : "bitext", "vectors", or "auto": parallel text if there is any.
    iterations, tension : of the aligner; tension 0 is IBM model 1.
    max_words : most frequent words that vectors are made from.
    prefix, source_prefix : language prefixes of the words in the vector files.
    fallback : tokens that translate to nothing: "constituent-mean", or "normal" for :math:`N(0, 1/d)` as in the paper, which gives rows
        instead of a graft.

    Returns a graft of shape (new tokens, old tokens) with non-negative rows that sum to 1. Raises `ParameterError` or `CorpusError`:
    neither bitext nor vectors, sides of unequal length, no new token in the bitext or among the vectors.
    """

    paper = Paper("From English to Foreign Languages: Transferring Pre-trained Language Models", "Tran", 2020, "2002.07306")
    summary = "mixed from its translations, by parallel text or aligned word vectors"
    needs: ClassVar[tuple[str, ...]] = ("bitext",)

    route: Literal["auto", "bitext", "vectors"] = "auto"
    iterations: Annotated[int, Field(ge=1)] = 5
    tension: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 4.0
    max_words: Annotated[int, Field(ge=1)] = 100_000
    prefix: str | None = None
    source_prefix: str | None = None
    fallback: Literal["constituent-mean", "normal"] = "constituent-mean"

    def __call__(self, source: Source, target: Target, context: Context) -> Graft | Rows:
        graft, missing = context.remember(repr(self), lambda: self._mix(source, target, context))
        if self.fallback == "normal" and len(missing):
            dim = source.table.shape[1]
            return redraw(graft, missing, source, context, torch.zeros(dim), torch.full((dim,), dim**-0.5))
        return graft

    def _mix(self, source: Source, target: Target, context: Context) -> tuple[Graft, Ids]:
        """The graft, and which of its rows had no translation."""
        aids = context.aids
        if self.route == "auto" and aids.bitext is None and aids.vectors is None:
            raise ParameterError(f"{self.name} needs --bitext, or --vectors with --source-vectors: give one, or choose another method")
        by_text = self.route == "bitext" or (self.route == "auto" and aids.bitext is not None)
        weights = (self._from_bitext if by_text else self._from_vectors)(source, target, context)
        return complete(weights, target), empty_rows(weights)

    def _from_bitext(self, source: Source, target: Target, context: Context) -> sparse.csr_matrix:
        old_lines, new_lines = read_bitext(*context.aids.need("bitext", self.name))
        shape = (target.tokenizer.vocab_size, source.vocab_size)
        aligner = Aligner(iterations=self.iterations, tension=self.tension)
        lines = source.tokenizer.encode_batch(old_lines), target.tokenizer.encode_batch(new_lines)
        counts = link_counts(*lines, shape, aligner)
        weights = normalized(counts[target.ids])
        if not weights.nnz:
            raise CorpusError(f"{self.name}: no new token occurs in the parallel text: is its second file in the new language?")
        lacking = f"{self.name}: the parallel text has no link"
        report_uncovered(empty_rows(weights), target, context, lacking, "give more parallel text", self.fallback)
        return weights

    def _from_vectors(self, source: Source, target: Target, context: Context) -> sparse.csr_matrix:
        old_words, new_words = aligned_aids(context, self.name, self.prefix, self.source_prefix)
        old = self._token_vectors(source.tokenizer, old_words)[: source.vocab_size]
        new = self._token_vectors(target.tokenizer, new_words)[target.ids]
        candidates, rows = np.flatnonzero(has_vector(old)), np.flatnonzero(has_vector(new))
        if not len(candidates):
            raise ParameterError(f"{self.name}: {old_words.name} has a vector for none of the old tokens: is it in the old language?")
        weights = over_old(sparsemax_cosine(new[rows], old[candidates]), rows, candidates, (len(target), source.vocab_size))
        lacking = f"{self.name}: {new_words.name} has no vector"
        report_uncovered(empty_rows(weights), target, context, lacking, "give vectors in the new tokenizer's language", self.fallback)
        return weights

    def _token_vectors(self, tokenizer: Tokenizer, vectors: Vectors) -> Floats:
        ranks = 1.0 / np.arange(1, len(vectors.words) + 1)
        return vectors_by_words(tokenizer, vectors, max_words=self.max_words, frequencies=ranks)
