"""What training costs, phase by phase, in floating-point operations."""

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

BACKWARD = 2  # a backward pass costs about two forward passes


def forward_flops(network: nn.Module, inputs: torch.Tensor) -> int:
    """Operations of one forward pass over `inputs` (two a multiply-add), of convolutions and matrix products.

    Mixing weights out of templates is left out: it does not grow with the batch.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(inputs)
    return int(counter.get_total_flops())


@dataclass
class Cost:
    """Operations of each phase by name."""

    phases: dict[str, float] = field(default_factory=dict)

    def add(self, phase: str, network: nn.Module, example: torch.Tensor, samples: float) -> None:
        """Count `samples` seen in training by `network`; `example` is a batch of one."""
        self.phases[phase] = self.phases.get(phase, 0.0) + (1 + BACKWARD) * forward_flops(network, example) * samples

    @property
    def total(self) -> float:
        return sum(self.phases.values())
