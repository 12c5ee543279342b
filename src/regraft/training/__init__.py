"""The one training loop: a model's training continued on text, on chosen parameters."""

from regraft.training.loop import SHORT, CurvePoint, Training, TrainingRun, train

__all__ = ["SHORT", "CurvePoint", "Training", "TrainingRun", "train"]
