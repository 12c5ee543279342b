"""Last token: the only state of a causal model that has seen the whole text."""

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer

from regraft.method import Paper
from regraft.text.encoder import Encoder, pooled


class LastToken(Encoder):
    r"""Hidden state of the last token that is not padding, on whichever side the padding stands (section 3.1, "lasttoken").

    Parameters
    ----------
    normalize : vectors of length 1. include_prompt : whether an instruction before the text is pooled too; it is always attended to.

    Returns vectors (n, d) in the width of the model.
    """

    paper = Paper("SGPT: GPT Sentence Embeddings for Semantic Search", "Muennighoff", 2022, "2202.08904")
    summary = "hidden state of the last token"

    normalize: bool = False
    include_prompt: bool = False

    def around(self, body: Transformer) -> SentenceTransformer:
        return pooled(body, "lasttoken", normalize=self.normalize, include_prompt=self.include_prompt)
