"""Ways of training under a guide, one a file."""

from regraft.grow.guide.guide import Guide

__all__ = ["Guide"]
