"""OFA: new rows are mixed from old tokens whose words mean alike in any language, over a table that may be cut to few dimensions."""

from typing import Annotated, ClassVar

from pydantic import Field
from scipy import sparse

from regraft.graft import Graft, Rows
from regraft.graft.moments import mean_and_std
from regraft.graft.similarity import softmax_nearest
from regraft.method import Paper
from regraft.vocab.initializer import Context, Source, Target
from regraft.vocab.mixing.fallback import Ids, complete, empty_rows, over_old, redraw
from regraft.vocab.mixing.word_space_start import WordSpaceStart


class OFA(WordSpaceStart):
    r"""One For All: :math:`e_t = \sum_{s \in N_k(t)} w_s E_s`, :math:`w = \mathrm{softmax}(\cos(u_t, u_s) / \tau)` over the k nearest.

    A token's vector *u* is the plain mean of the vectors of the words that hold it, each word spelled as it is, behind a space, and
    capitalized behind a space (a word that holds the token in two spellings counts twice). Words come from ``--vectors``, one file with
    vectors of all languages in one space, or the new language's, with ``--source-vectors`` for the old one (aligned by ``--dictionary``,
    else taken to be in one space); both tokenizers cut all of them. Tokens that both tokenizers have are copied before any method runs;
    then a token that differs from an old one only by case is copied; tokens without a vector fall back.

    With a `rank` below the table's dimension, :math:`E \approx F P` by the uncentred SVD, the same weights mix rows of *F*, and the model
    keeps *F* and *P* (shared between embedding and head where they are tied) instead of *E*: all rows, copied ones too, are then cut to
    the span of *P*. The checkpoint is smaller; `regraft.export.load_factorised` opens it for training, and
    `regraft export` makes an ordinary one of it.

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
    bias : output biases of new tokens: "zero" (a copy keeps its own), or "mixed" by the same weights.
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

    k: Annotated[int, Field(ge=1)] = 10
    temperature: Annotated[float, Field(gt=0)] = 0.1

    def __call__(self, source: Source, target: Target, context: Context) -> Graft | Rows:
        graft, missing = context.remember(repr(self), lambda: self._mix(source, target, context))
        if self.fallback == "normal" and len(missing):
            bias = None if source.bias is None else self.new_bias(graft, source.bias)
            return redraw(graft, missing, source, context, *mean_and_std(source.table), bias)
        return graft

    def _mix(self, source: Source, target: Target, context: Context) -> tuple[Graft, Ids]:
        """The graft, and which of its rows had no vector."""
        found = self.align(source, target, context)
        rows, candidates = found.covered, found.candidates
        nearest = softmax_nearest(found.new.vectors[target.ids[rows]], found.old.vectors[candidates], self.k, self.temperature)
        mixed = over_old(nearest, rows, candidates, (len(target), source.vocab_size))
        weights = sparse.csr_matrix(found.copying(source.vocab_size) + mixed)
        return complete(weights, target), empty_rows(weights)
