"""One table for every feature: each value of each feature finds its rows by a hash of its own (Unified Embedding)."""

from regraft.tables.unified.features import Feature, UnifiedTable

__all__ = ["Feature", "UnifiedTable"]
