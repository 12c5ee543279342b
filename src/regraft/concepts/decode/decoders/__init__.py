"""Decoders of embeddings to images, one file each."""

from regraft.concepts.decode.decoder import EmbeddingDecoder

__all__ = ["EmbeddingDecoder"]
