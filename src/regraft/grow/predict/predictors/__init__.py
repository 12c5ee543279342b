"""Hypernetworks that predict weights: one method a file."""

from regraft.grow.predict.predictor import Predictor

__all__ = ["Predictor"]
