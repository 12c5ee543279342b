"""Maximum over time of each dimension."""

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer

from regraft.method import Paper
from regraft.text.encoder import Encoder, pooled


class Maximum(Encoder):
    r"""Largest value of each dimension over the text's tokens (section 3, "MAX").

    Parameters
    ----------
    normalize : vectors of length 1. include_prompt : whether an instruction before the text is pooled too; it is always attended to.

    Returns vectors (n, d) in the width of the model.
    """

    paper = Paper("Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks", "Reimers and Gurevych", 2019, "1908.10084")
    summary = "largest value of each dimension"

    normalize: bool = False
    include_prompt: bool = False

    def around(self, body: Transformer) -> SentenceTransformer:
        return pooled(body, "max", normalize=self.normalize, include_prompt=self.include_prompt)
