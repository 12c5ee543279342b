"""Power means: several generalised means of the token states, side by side."""

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Transformer

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.text.encoder import Encoder
from regraft.text.modules.power_pooling import PowerPooling
from regraft.text.reading.layers import read_layer


class PowerMeans(Encoder):
    r""":math:`\left(\frac{1}{T}\sum_t h_t^p\right)^{1/p}` for each p of `powers`, concatenated (section 3); p = 3 keeps signs.

    Parameters
    ----------
    powers : odd numbers, `min` and `max`, with commas between; 1 is the mean. layer, final_norm, normalize : as of `prompt-eol`.

    Returns vectors (n, d * number of powers).
    """

    paper = Paper(
        "Concatenated Power Mean Word Embeddings as Universal Cross-Lingual Sentence Representations", "Rücklé et al.", 2018, "1803.01400"
    )
    summary = "mean, minimum, maximum and cubic mean, concatenated"
    stock = False

    powers: str = "1,min,max,3"
    layer: int | None = None
    final_norm: bool = False
    normalize: bool = False

    def around(self, body: Transformer) -> SentenceTransformer:
        powers = [one.strip() for one in self.powers.split(",")]
        bad = [one for one in powers if one not in ("min", "max") and not (one.isdigit() and int(one) % 2)]
        if bad:
            raise ParameterError(f"powers={self.powers}: {bad[0]!r} is neither min nor max nor an odd number")
        read_layer(body, self.layer, final_norm=self.final_norm)
        pooling = PowerPooling(int(body.get_embedding_dimension()), powers)
        return SentenceTransformer(modules=[body, pooling, *([Normalize()] if self.normalize else [])], device="cpu")
