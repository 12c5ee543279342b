"""Experts: a dense model's feed-forward blocks split into experts (EMoE) or copied into them (sparse upcycling), and the way back."""

from regraft.grow.experts.block import Mode
from regraft.grow.experts.live import Installed, install, installed, remove
from regraft.grow.experts.opening import load, to_dense, to_emoe
from regraft.grow.experts.split import Layer, Routing, Split

__all__ = ["Installed", "Layer", "Mode", "Routing", "Split", "install", "installed", "load", "remove", "to_dense", "to_emoe"]
