"""Anchors: which samples every space is described by, in one order, kept so that another encoder can encode them too."""

from regraft.align.anchors.anchor_set import AnchorSet, parallel_anchors
from regraft.align.anchors.samplers import SAMPLERS, Sampler, draw_anchors

__all__ = ["SAMPLERS", "AnchorSet", "Sampler", "draw_anchors", "parallel_anchors"]
