"""First token: the state of [CLS], or of whatever stands first."""

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer

from regraft.method import Paper
from regraft.text.encoder import Encoder, pooled


class First(Encoder):
    r"""Hidden state of the first token, [CLS] in BERT (section 3).

    Parameters
    ----------
    normalize : vectors of length 1. include_prompt : whether an instruction before the text is pooled too; it is always attended to.

    Returns vectors (n, d) in the width of the model.
    """

    paper = Paper("Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks", "Reimers and Gurevych", 2019, "1908.10084")
    summary = "hidden state of the first token ([CLS])"

    normalize: bool = False
    include_prompt: bool = False

    def around(self, body: Transformer) -> SentenceTransformer:
        return pooled(body, "cls", normalize=self.normalize, include_prompt=self.include_prompt)
