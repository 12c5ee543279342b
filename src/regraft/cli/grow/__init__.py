"""`regraft grow`: a trained model in another size. One module a verb; each registers itself with the group."""

from regraft.cli.grow import compare, depth, experts, guide, hypernet, linearity, predict, width  # each registers its verb with the group

__all__ = ["compare", "depth", "experts", "guide", "hypernet", "linearity", "predict", "width"]
