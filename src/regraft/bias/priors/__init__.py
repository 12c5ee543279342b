"""Priors by name, and the plain networks that they are set beside."""

from regraft.bias.prior import Learned, Plan, Prior

__all__ = ["Learned", "Plan", "Prior"]
