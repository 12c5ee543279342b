"""Mean: the average of a text's hidden states."""

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer

from regraft.method import Paper
from regraft.text.encoder import Encoder, pooled


class Mean(Encoder):
    r"""Mean of the last hidden states (T, d) over the text's tokens: :math:`e = \sum_t m_t h_t / \sum_t m_t` (section 3).

    Parameters
    ----------
    normalize : vectors of length 1. include_prompt : whether an instruction before the text is pooled too; it is always attended to.

    Returns vectors (n, d) in the width of the model.
    """

    paper = Paper("Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks", "Reimers and Gurevych", 2019, "1908.10084")
    summary = "mean of the last hidden states"

    normalize: bool = False
    include_prompt: bool = False

    def around(self, body: Transformer) -> SentenceTransformer:
        return pooled(body, "mean", normalize=self.normalize, include_prompt=self.include_prompt)
