"""Token prepending: a placeholder before the text carries the last token's state down the layers, so that early words see all of it."""

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.text.encoder import Encoder, pooled
from regraft.text.modules.template import PLACEHOLDER, Template
from regraft.text.reading.layers import blocks_of, read_layer


class TokenPrepending(Encoder):
    r"""Before each layer l, start <= l < stop: :math:`H^{(l)}_p \leftarrow H^{(l)}_{-1}` at the placeholder p; read below the last layer.

    Parameters
    ----------
    template : with `{p}` for the placeholder, whose embedding is drawn from N(0, 1), and `{x}`. seed : of that draw.
    start, stop : layers before which the state is carried, counted from 0; none takes a fifth of the layers. stop = start carries nothing.
    layer : which is read; none takes 85 % of the way up, the paper's 27 of 32 (for other depths a rule of ours, as is the fifth).
    clean_up, final_norm, normalize : as of `prompt-eol`.

    Returns vectors (n, d) in the width of the model.
    """

    paper = Paper(
        "Token Prepending: A Training-Free Approach for Eliciting Better Sentence Embeddings from LLMs", "Fu et al.", 2024, "2412.11556"
    )
    summary = "prompt-eol with a placeholder that carries the last state to the front"
    stock = False

    template: str = 'This sentence : {p} "{x}" means in one word:"'
    start: int = 1
    stop: int | None = None
    layer: int | None = None
    final_norm: bool = False
    clean_up: bool = True
    seed: int = 0
    normalize: bool = False

    def around(self, body: Transformer) -> SentenceTransformer:
        count = len(blocks_of(body.model))
        layer = round(0.85 * count) if self.layer is None else self.layer
        stop = max(self.start + 1, round(0.2 * count)) if self.stop is None else self.stop
        if stop > (layer if layer >= 0 else count + 1 + layer):
            raise ParameterError(f"stop={stop}: the layer that is read, {layer}, lies below it")
        if PLACEHOLDER not in self.template:
            raise ParameterError(f"template: no {PLACEHOLDER} in it")
        read_layer(body, layer, final_norm=self.final_norm)
        read = Template(body, [self.template], clean_up=self.clean_up, start=self.start, stop=stop, seed=self.seed)
        return pooled(read, "lasttoken", normalize=self.normalize)
