"""Zero-shot stitching: a head for one encoder reads another that it has never seen."""

from regraft.align.stitching.head import HeadSettings
from regraft.align.stitching.matrix import Cell, Encoded, Stitching, stitching_matrix

__all__ = ["Cell", "Encoded", "HeadSettings", "Stitching", "stitching_matrix"]
