"""Ways from a dense model to a mixture of experts, one a file."""

from regraft.grow.experts.grower import ExpertGrower

__all__ = ["ExpertGrower"]
