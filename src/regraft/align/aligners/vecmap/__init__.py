"""VecMap: both spaces mapped, in steps that can be left out, from a dictionary or from none."""

from regraft.align.aligners.vecmap.method import VecMap

__all__ = ["VecMap"]
