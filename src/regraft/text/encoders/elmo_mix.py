"""ELMo's mix: a task's own weighting of all layers, learned when the encoder is trained."""

from typing import Literal

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

from regraft.method import Paper
from regraft.text.encoder import Encoder
from regraft.text.modules.scalar_mix import ScalarMix
from regraft.text.reading.layers import all_layers


class ElmoMix(Encoder):
    r""":math:`\gamma \sum_j \mathrm{softmax}(s)_j\, h_j` over all layers j (equation 1), then pooled. s starts at 0 (the mean), gamma at 1.

    Parameters
    ----------
    pooling : mean, weightedmean, lasttoken, cls or max. layer_norm : each layer is normed before it is mixed, without a gain, over its
        tokens' own dimensions. normalize : vectors of length 1.

    Returns vectors (n, d) in the width of the model.
    """

    paper = Paper("Deep contextualized word representations", "Peters et al.", 2018, "1802.05365")
    summary = "learned weighting of all layers, at first their mean"
    stock = False

    pooling: Literal["mean", "weightedmean", "lasttoken", "cls", "max"] = "mean"
    layer_norm: bool = False
    normalize: bool = False

    def around(self, body: Transformer) -> SentenceTransformer:
        mix = ScalarMix(all_layers(body), layer_norm=self.layer_norm)
        pooling = Pooling(body.get_embedding_dimension(), self.pooling)
        return SentenceTransformer(modules=[body, mix, pooling, *([Normalize()] if self.normalize else [])], device="cpu")
