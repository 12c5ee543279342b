"""Echo: the text is read twice, and only the second copy is pooled: there each word has seen the whole text, causal mask or not."""

from typing import Literal

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer

from regraft.method import Paper
from regraft.text.encoder import Encoder, pooled
from regraft.text.modules.template import Template
from regraft.text.reading.layers import read_layer


class Echo(Encoder):
    r"""`Rewrite the sentence: {x}, rewritten sentence: {x}`, pooled over copy 2 alone (section 3); twice the cost.

    Parameters
    ----------
    template : a text with `{x}` twice. Models tuned for echo want `Instruct:{task},\nQuery:{x}\nQuery again:{x}{eos}`: the end
        token is then pooled with the copy. A long text is cut in each copy, so that what stands around it survives.
    pooling : over copy 2: mean, weightedmean, max or lasttoken. clean_up, layer, final_norm, normalize : as of `prompt-eol`.

    Returns vectors (n, d) in the width of the model.
    """

    paper = Paper("Repetition Improves Language Model Embeddings", "Springer et al.", 2024, "2402.15449")
    summary = "mean over the second of two copies of the text"
    stock = False

    template: str = "Rewrite the sentence: {x}, rewritten sentence: {x}"
    pooling: Literal["mean", "weightedmean", "max", "lasttoken"] = "mean"
    clean_up: bool = False
    layer: int | None = None
    final_norm: bool = False
    normalize: bool = False

    def around(self, body: Transformer) -> SentenceTransformer:
        read_layer(body, self.layer, final_norm=self.final_norm)
        return pooled(Template(body, [self.template], "text", clean_up=self.clean_up), self.pooling, normalize=self.normalize)
