"""Models of words, one module each."""

from regraft.text.words.model import WordModel

__all__ = ["WordModel"]
