"""FOCUS: a new token is mixed from the shared tokens that the target text uses like it."""

import string
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field
from scipy import sparse

from regraft.errors import ParameterError
from regraft.graft import Graft, Rows
from regraft.graft.moments import mean_and_std
from regraft.graft.similarity import has_vector, sparsemax_cosine
from regraft.method import Paper
from regraft.tokenizer import Tokenizer
from regraft.vectors.files import open_vectors
from regraft.vectors.tokens import token_text, vectors_by_look_up
from regraft.vectors.training import VectorTraining, train_token_vectors
from regraft.vocab.initializer import Context, Initializer, Source, Target
from regraft.vocab.mixing.fallback import complete, empty_rows, over_old, redraw
from regraft.vocab.mixing.uncovered import report_uncovered

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
SYMBOLS = frozenset(string.punctuation)


class Focus(Initializer):
    r"""Fast overlapping token combinations: :math:`e_t = \sum_{o \in O} w_o E_o`, :math:`w = \mathrm{sparsemax}(\cos(a_t, a_o))_{o \in O}`.

    Auxiliary vectors *a* are fastText vectors trained on the corpus as the new tokenizer cuts it, or one look-up per token in given word
    vectors. Anchors *O* are all tokens that both tokenizers have and that have a vector; there is no temperature. Tokens that both
    tokenizers have are copied before any method runs, also those too rare to be anchors. Where a tokenizer was extended, anchors are the
    old tokens that the corpus still uses `min_count` times.

    Parameters
    ----------
    overlap : which tokens count as shared. "exact": same bytes in the same place of a word. "fuzzy": also new tokens that differ from
        an old one only by case or leading space; they are copied from it and serve as anchors. "symbols": anchors are numbers,
        punctuation and white space only.
    auxiliary : "corpus" trains on the corpus, "vectors" looks tokens up in ``--vectors``.
    dim, epochs, window, negative, min_count, min_n, max_n : of the fastText training; see `VectorTraining`. The paper's 3 epochs are for
        hundreds of MB of text: on 1 MB all vectors still are alike after them, and every row a mean of thousands of anchors; take 10.
    max_anchors : a token that would be mixed from more anchors than this is mixed from as many of the nearest.
    prefix : language prefix of the words in ``--vectors``.
    fallback : tokens without a vector. "constituent-mean": mean of their old pieces, so that the result stays a graft. "normal": drawn from
        :math:`N(\bar E, \mathrm{std}(E))` per dimension as in the paper; the result is then rows, without a hull certificate.
    workers : threads of the training; with more than one the vectors differ from run to run.

    Returns a graft of shape (new tokens, old tokens) with non-negative rows that sum to 1; rows with `fallback="normal"` if any token
    needs it. Raises `ParameterError` without any anchor, or any new token, that has a vector; `CorpusError` when the text is too small for
    vectors.
    """

    paper = Paper(
        "FOCUS: Effective Embedding Initialization for Monolingual Specialization of Multilingual Models",
        "Dobler & de Melo",
        2023,
        "2305.14481",
    )
    summary = "mixed from shared tokens that the text uses alike (fastText, sparsemax)"
    needs: ClassVar[tuple[str, ...]] = ("text",)

    overlap: Literal["exact", "fuzzy", "symbols"] = "exact"
    auxiliary: Literal["corpus", "vectors"] = "corpus"
    dim: Annotated[int, Field(ge=1)] = 100
    epochs: Annotated[int, Field(ge=1)] = 3
    window: Annotated[int, Field(ge=1)] = 5
    negative: Annotated[int, Field(ge=1)] = 10
    min_count: Annotated[int, Field(ge=1)] = 10
    min_n: Annotated[int, Field(ge=1)] = 3
    max_n: Annotated[int, Field(ge=0)] = 6
    max_anchors: Annotated[int, Field(ge=1)] = 1024
    prefix: str | None = None
    fallback: Literal["constituent-mean", "normal"] = "constituent-mean"
    workers: Annotated[int, Field(ge=1)] = 1

    def __call__(self, source: Source, target: Target, context: Context) -> Graft | Rows:
        graft, missing = context.remember(repr(self), lambda: self._mix(source, target, context))
        if self.fallback == "normal" and len(missing):
            return redraw(graft, missing, source, context, *mean_and_std(source.table))
        return graft

    def _mix(self, source: Source, target: Target, context: Context) -> tuple[Graft, Ids]:
        """The graft, and which of its rows had no vector."""
        vectors = self._vectors(target, context)
        shared = target.source_ids.copy()
        if self.overlap == "fuzzy":
            shared[target.ids] = fuzzy_matches(target)
        usable = has_vector(vectors)
        anchors = np.flatnonzero((shared >= 0) & usable)
        if self.overlap == "symbols":
            anchors = anchors[[is_symbol(target.tokenizer, int(i)) for i in anchors]]
        if not len(anchors):
            raise ParameterError(
                f"focus: no token that both tokenizers have ({self.overlap} match) has a vector: give more text, or vectors"
            )
        new = shared[target.ids] < 0
        combined = np.flatnonzero(new & usable[target.ids])
        copied = np.flatnonzero(~new)
        shape = (len(target), source.vocab_size)
        mixed = sparsemax_cosine(vectors[target.ids[combined]], vectors[anchors], self.max_anchors)
        weights = over_old(mixed, combined, shared[anchors], shape)
        copies = sparse.csr_matrix((np.ones(len(copied)), (copied, shared[target.ids[copied]])), shape=shape)
        weights = sparse.csr_matrix(weights + copies)
        missing = empty_rows(weights)
        given = self.auxiliary == "vectors"
        report_uncovered(
            missing, target, context,
            f"{self.name}: {'--vectors has' if given else 'the corpus gives'} no vector",
            "give vectors in the new tokenizer's language" if given else "give more text, or lower min_count",
            self.fallback,
        )  # fmt: skip
        return complete(weights, target), missing

    def _vectors(self, target: Target, context: Context) -> Floats:
        """One vector per token of the new tokenizer; zero where there is none."""
        if self.auxiliary == "vectors":
            return vectors_by_look_up(target.tokenizer, open_vectors(context.aids.need("vectors", self.name), self.prefix))
        training = VectorTraining(
            dim=self.dim, epochs=self.epochs, window=self.window, negative=self.negative, min_count=self.min_count,
            min_n=self.min_n, max_n=self.max_n, workers=self.workers,
        )  # fmt: skip
        return train_token_vectors(target.tokenizer, context.texts(self.name), training, context.seed)


def fuzzy_matches(target: Target) -> Ids:
    """For each new token the old token that differs from it only by case and surrounding space (the lowest id), or -1; shape (m,)."""
    old: dict[str, int] = {}
    for token in sorted(target.old_tokenizer.pieces):
        old.setdefault(token_text(target.old_tokenizer, token).lower(), token)
    old.pop("", None)
    return np.array([old.get(token_text(target.tokenizer, int(i)).lower(), -1) for i in target.ids], dtype=np.int64)


def is_symbol(tokenizer: Tokenizer, token: int) -> bool:
    """Whether a token is a number, punctuation or white space."""
    text = token_text(tokenizer, token)
    if not text:
        return not tokenizer.is_special(token) and tokenizer.surface(token).isspace()
    return text.isnumeric() or SYMBOLS.issuperset(text)
