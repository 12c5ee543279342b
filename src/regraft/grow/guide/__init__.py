"""Guidance: a network that would not train, drawn to the layers of one that does."""

from regraft.grow.guide.distances import cka
from regraft.grow.guide.loss import GuidanceLoss
from regraft.grow.guide.train import load

__all__ = ["GuidanceLoss", "cka", "load"]
