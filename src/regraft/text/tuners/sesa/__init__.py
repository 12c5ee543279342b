"""SESA: an encoder whose dimensions are the concepts of a knowledge base, trained to rank."""

from regraft.text.tuners.sesa.method import Sesa

__all__ = ["Sesa"]
