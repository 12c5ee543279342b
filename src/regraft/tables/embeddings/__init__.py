"""Compressed tables, one method a file."""

from regraft.tables.embedding import CompressedEmbedding

__all__ = ["CompressedEmbedding"]
