"""Layers: any layer, or the mean of several, under any pooling."""

from typing import Literal

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer, WeightedLayerPooling
from torch import nn

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.text.encoder import Encoder, pooled
from regraft.text.reading.layers import all_layers, one_hot, read_layer

NAMED = {"first-last": [1, -1], "last-2": [-1, -2], "last-4": [-1, -2, -3, -4]}


class Layers(Encoder):
    r"""Mean of the states of `layers`: one number, numbers with commas between, `first-last`, `last-2`, `last-4` or `all`.

    Layer 0 is the embeddings, N (or -1) the last one, after the model's final norm if it has one; layers below are raw. One layer alone is
    read from a model that is cut above it.

    Parameters
    ----------
    layers : which, as above. final_norm : read one layer through the model's final norm.
    pooling : mean, weightedmean, lasttoken, cls or max over the text's tokens. normalize : vectors of length 1.

    Returns vectors (n, d) in the width of the model.
    """

    paper = Paper("Whitening Sentence Representations for Better Semantics and Faster Retrieval", "Su et al.", 2021, "2103.15316")
    summary = "any layer, or the mean of several"

    layers: str = "first-last"
    pooling: Literal["mean", "weightedmean", "lasttoken", "cls", "max"] = "mean"
    final_norm: bool = False
    normalize: bool = False

    def around(self, body: Transformer) -> SentenceTransformer:
        chosen = _numbers(self.layers)
        if len(chosen) == 1:
            return pooled(read_layer(body, chosen[0], final_norm=self.final_norm), self.pooling, normalize=self.normalize)
        if self.final_norm:
            raise ParameterError("final_norm: of one layer only; a mean of layers is of raw ones")
        count = all_layers(body)
        weights = one_hot(count, chosen or list(range(count)))
        width = body.get_embedding_dimension()
        mix = WeightedLayerPooling(width, num_hidden_layers=count - 1, layer_start=0, layer_weights=nn.Parameter(weights))
        modules = [body, mix, Pooling(width, self.pooling), *([Normalize()] if self.normalize else [])]
        return SentenceTransformer(modules=modules, device="cpu")


def _numbers(written: str) -> list[int]:
    """Layers that are named; none of them means all."""
    if written == "all":
        return []
    try:
        return NAMED.get(written) or [int(one) for one in written.split(",")]
    except ValueError:
        raise ParameterError(f"layers={written}: give numbers with commas between, all, {', '.join(NAMED)}") from None
