"""Starts for new rows, one file or folder each. What is dropped here is found by name; nothing else needs to change."""

from regraft.vocab.initializer import Initializer

__all__ = ["Initializer"]
