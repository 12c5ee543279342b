"""Ways to another width, one method a file."""

from regraft.grow.width.grower import WidthGrower

__all__ = ["WidthGrower"]
