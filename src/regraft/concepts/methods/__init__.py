"""Methods that teach a concept, one file each."""

from regraft.concepts.method import ConceptMethod

__all__ = ["ConceptMethod"]
