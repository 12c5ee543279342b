"""Learning rates of a phase: warm-up, cosine, cycles. Each phase has a schedule of its own."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Cosine:
    """Rate by epoch.

    Attributes
    ----------
    lr, least : peak and end. epochs : length of the phase. warmup : epochs from `start` up to the peak.
    cycles : how often it falls; each peak is `decay` times the one before.

    Phases one and two of the CIFAR recipe: ``Cosine(0.1, 200, least=1e-6, warmup=2, start=1e-5)``; after growth
    ``Cosine(1e-4, 40, least=3e-5, warmup=1, cycles=4, decay=0.5)``.
    """

    lr: float
    epochs: float
    least: float = 0.0
    warmup: float = 0.0
    start: float = 0.0
    cycles: int = 1
    decay: float = 0.5

    def at(self, epoch: float) -> float:
        """The rate after `epoch` epochs, a share of one too."""
        if epoch < self.warmup:
            return self.start + (self.lr - self.start) * epoch / self.warmup
        length = (self.epochs - self.warmup) / self.cycles
        cycle = min(int((epoch - self.warmup) / length), self.cycles - 1)
        peak = max(self.lr * self.decay**cycle, self.least)
        share = min(1.0, (epoch - self.warmup - cycle * length) / length)
        return self.least + (peak - self.least) * (1 + math.cos(math.pi * share)) / 2
