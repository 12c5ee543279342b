"""Text in: documents from files, folders, tables, catalogues and streams, split by hash into train and held-out."""

from regraft.corpus.documents import Corpus

__all__ = ["Corpus"]
