"""Ways to another number of layers, one a file."""

from regraft.grow.depth.grower import DepthGrower

__all__ = ["DepthGrower"]
