"""Encoders that learn from a dictionary: a definition's vector points at its entry, among all entries."""

from regraft.text.tuners.defsent.plus import DefSentPlus
from regraft.text.tuners.defsent.single import DefSent

__all__ = ["DefSent", "DefSentPlus"]
