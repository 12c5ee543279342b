"""Plain contrastive training: what every other way of training is set beside."""

from typing import Any, ClassVar

from pydantic import PositiveFloat
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CoSENTLoss, MultipleNegativesRankingLoss

from regraft.method import Paper
from regraft.text.fitting import Budget, fit
from regraft.text.tuner import Kind, Tuner


class Contrastive(Tuner):
    r"""Softmax over a batch of pairs, or ordered cosines of scored pairs; both losses are sentence-transformers' own.

    Pairs: :math:`-\log \frac{e^{s \cos(a_i, p_i)}}{\sum_j e^{s \cos(a_i, p_j)}}` over all positives and negatives of the batch (section 4).
    Scored pairs: :math:`\log(1 + \sum e^{s (\cos_j - \cos_i)})` over pairs of which i has the higher score (CoSENT).

    Parameters
    ----------
    scale : s, the inverse temperature.

    Returns the model, trained in place.
    """

    paper = Paper("Efficient Natural Language Response Suggestion for Smart Reply", "Henderson et al.", 2017, "1705.00652")
    summary = "softmax over a batch of pairs, or ordered cosines of scored ones"
    takes: ClassVar[tuple[Kind, ...]] = ("scored", "pairs")

    scale: PositiveFloat = 20.0

    def train(self, model: SentenceTransformer, examples: Any, budget: Budget) -> SentenceTransformer:
        kind = CoSENTLoss if "score" in examples.column_names else MultipleNegativesRankingLoss
        fit(model, kind(model, scale=self.scale), examples, budget, name=self.name)
        return model
