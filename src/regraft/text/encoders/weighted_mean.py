"""Weighted mean: later positions, which have seen more of the text, count more."""

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer

from regraft.method import Paper
from regraft.text.encoder import Encoder, pooled


class WeightedMean(Encoder):
    r"""Mean with weights 1, 2, 3, ... over the pooled positions: :math:`e = \sum_t t\, h_t / \sum_t t` (section 3.1).

    Parameters
    ----------
    normalize : vectors of length 1. include_prompt : whether an instruction before the text is pooled too; it is always attended to.

    Returns vectors (n, d) in the width of the model.
    """

    paper = Paper("SGPT: GPT Sentence Embeddings for Semantic Search", "Muennighoff", 2022, "2202.08904")
    summary = "mean of hidden states with weights 1, 2, 3, ... by position"

    normalize: bool = False
    include_prompt: bool = False

    def around(self, body: Transformer) -> SentenceTransformer:
        return pooled(body, "weightedmean", normalize=self.normalize, include_prompt=self.include_prompt)
