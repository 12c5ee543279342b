"""HyperOFA: a network learns from the old rows what row the words around a token ask for."""

from regraft.vocab.initializers.hyper_ofa.method import HyperOFA

__all__ = ["HyperOFA"]
