"""Subword: a new token starts from its old pieces, in the four ways of mergekit-tokensurgeon."""

from typing import ClassVar, Literal

from regraft.graft import Graft
from regraft.method import Paper
from regraft.vocab.initializer import Context, Initializer, Source, Target


class Subword(Initializer):
    r"""Mean, sum, linearly weighted mean, or one end of a token's old pieces :math:`p_1, \dots, p_k`.

    Parameters
    ----------
    combine : "mean"; "sum"; "weighted_mean" (:math:`w_i \propto i` for input rows, so that the last piece counts most, and
        :math:`w_i \propto k + 1 - i` for head rows; the released tool has the two swapped); "first_last" (input rows copy the last piece,
        head rows the first).

    Returns a graft of shape (new tokens, old tokens); rows sum to 1 unless `combine` is "sum".
    """

    paper = Paper("Training-Free Tokenizer Transplantation via Orthogonal Matching Pursuit", "Goddard & Fernandes Neto", 2025, "2506.06607")
    summary = "its old pieces: mean, sum, weighted mean, or one end"
    separate_head: ClassVar[bool] = True

    combine: Literal["mean", "sum", "weighted_mean", "first_last"] = "weighted_mean"

    def __call__(self, source: Source, target: Target, context: Context) -> Graft:
        pieces = target.pieces
        if self.combine == "first_last":
            end = -1 if source.role == "input" else 0
            return Graft.uniform([[p[end]] if p else [] for p in pieces], source.vocab_size)
        weights = None
        if self.combine == "weighted_mean":
            rising = [[float(i + 1) for i in range(len(p))] for p in pieces]
            weights = rising if source.role == "input" else [w[::-1] for w in rising]
        return Graft.from_ragged(pieces, source.vocab_size, weights, normalize=self.combine != "sum")
