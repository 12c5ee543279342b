"""One module a model of facts."""

from regraft.graph.facts.model import FactModel

__all__ = ["FactModel"]
