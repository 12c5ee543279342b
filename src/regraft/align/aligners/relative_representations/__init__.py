"""Relative representations: spaces described by similarities to shared anchors, so that a head for one reads another.

`RelativeRepresentations` is the map between two spaces; `RelativeSpace` is the transformer of one; `module.RelativeProjection` is the layer
for training end to end; `bootstrap.grow_anchors` finds more pairs from a few.
"""

from regraft.align.aligners.relative_representations.method import RelativeRepresentations
from regraft.align.aligners.relative_representations.space import RelativeSpace

__all__ = ["RelativeRepresentations", "RelativeSpace"]
