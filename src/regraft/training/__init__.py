"""The one training loop: a model's training continued on text, on chosen parameters."""

from regraft.training.loop import CurvePoint, Training, TrainingRun, train

__all__ = ["CurvePoint", "Training", "TrainingRun", "train"]
