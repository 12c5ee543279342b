"""The one training loop: a model's training continued on text, on chosen parameters."""

from regraft.training.loop import train
from regraft.training.run import CurvePoint, TrainingRun
from regraft.training.settings import FEW_STEPS, QLORA, SHORT, Training

__all__ = ["FEW_STEPS", "QLORA", "SHORT", "CurvePoint", "Training", "TrainingRun", "train"]
