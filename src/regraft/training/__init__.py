"""The one training loop: a model's training continued on text, on chosen parameters."""

from regraft.training.loop import train
from regraft.training.run import CurvePoint, TrainingRun
from regraft.training.settings import QLORA, SHORT, Training

__all__ = ["QLORA", "SHORT", "CurvePoint", "Training", "TrainingRun", "train"]
