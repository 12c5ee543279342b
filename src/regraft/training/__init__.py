"""The one training loop: a model's training continued on text, on chosen parameters."""

from regraft.training.loop import CurvePoint, TrainingRun, train
from regraft.training.settings import QLORA, SHORT, Training

__all__ = ["QLORA", "SHORT", "CurvePoint", "Training", "TrainingRun", "train"]
