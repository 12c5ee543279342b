"""Maps between spaces, one file or folder each. What is dropped here is found by name; nothing else needs to change."""

from regraft.align.aligner import Aligner

__all__ = ["Aligner"]
