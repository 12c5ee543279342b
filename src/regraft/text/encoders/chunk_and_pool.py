"""Chunk and pool: a text longer than the model reads is encoded in pieces, and the pieces' vectors are averaged."""

from typing import Annotated, Literal

from pydantic import Field
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Transformer

from regraft.method import Paper
from regraft.text.encoder import Encoder
from regraft.text.modules.chunked import Chunked


class ChunkAndPool(Encoder):
    r"""Pieces of as many tokens as the model reads, `overlap` of them shared with the piece before; vectors weighted by new tokens.

    A text that fits is encoded as ever. Memory is bounded by a batch of pieces, whatever the text's length.

    Parameters
    ----------
    pooling : within a piece. overlap : tokens. normalize : vectors of length 1.

    Returns vectors (n, d) in the width of the model.
    """

    paper = Paper("Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks", "Reimers and Gurevych", 2019, "1908.10084")
    summary = "long texts in pieces, their vectors averaged"
    stock = False

    pooling: Literal["mean", "weightedmean", "lasttoken", "cls", "max"] = "mean"
    overlap: Annotated[int, Field(ge=0)] = 0
    normalize: bool = False

    def around(self, body: Transformer) -> SentenceTransformer:
        return SentenceTransformer(
            modules=[Chunked(body, self.pooling, self.overlap), *([Normalize()] if self.normalize else [])], device="cpu"
        )
