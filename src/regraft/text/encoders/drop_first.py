"""Drop first: the first token, on which causal models dump their attention, is left out of the pooling."""

from typing import Annotated, Literal

from pydantic import Field
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer

from regraft.method import Paper
from regraft.text.encoder import Encoder, pooled
from regraft.text.modules.skip_first import SkipFirst
from regraft.text.reading.layers import read_layer


class DropFirst(Encoder):
    r"""Pooling without the first tokens: the attention sink's state is long, the same in every text, and rules raw means of middle layers.

    Parameters
    ----------
    count : tokens left out of each text; the last one always stays. pooling, normalize : as of `layers`. layer, final_norm : as of
        `prompt-eol`.

    Returns vectors (n, d) in the width of the model.
    """

    paper = Paper("Efficient Streaming Language Models with Attention Sinks", "Xiao et al.", 2023, "2309.17453")
    summary = "mean without the first token, the attention sink"
    stock = False

    count: Annotated[int, Field(ge=0)] = 1
    pooling: Literal["mean", "weightedmean", "max"] = "mean"
    layer: int | None = None
    final_norm: bool = False
    normalize: bool = False

    def around(self, body: Transformer) -> SentenceTransformer:
        read_layer(body, self.layer, final_norm=self.final_norm)
        model = pooled(body, self.pooling, normalize=self.normalize)
        return SentenceTransformer(modules=[body, SkipFirst(self.count), *list(model)[1:]], device="cpu")
