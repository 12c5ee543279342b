"""Constituent mean: a new token starts as the mean of the old pieces that used to spell it."""

from regraft.graft import Graft
from regraft.method import Paper
from regraft.vocab.initializer import Context, Initializer, Source, Target


class ConstituentMean(Initializer):
    r"""Mean of the rows of a token's old pieces (fast vocabulary transfer; "subtoken mean").

    A new token that the old tokenizer spells :math:`p_1, \dots, p_k` gets :math:`e = \frac{1}{k} \sum_i E_{p_i}`. Pieces come from the
    token's *bytes*, never from its display string. A token with no spelling takes the mean of all rows and is reported.

    Returns a graft of shape (new tokens, old tokens) with rows that sum to 1, so it lies in the convex hull of the old rows.
    """

    paper = Paper("Fast Vocabulary Transfer for Language Model Compression", "Gee et al.", 2022, "2402.09977")
    summary = "mean of the pieces that used to spell the token"

    def __call__(self, source: Source, target: Target, context: Context) -> Graft:
        return Graft.uniform(target.pieces, columns=source.vocab_size)
