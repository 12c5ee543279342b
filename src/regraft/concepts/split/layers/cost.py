"""What a model weighs and computes: counted by PyTorch on one image, and by formula before there is a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from regraft.concepts.split.layers.partition import Partition
from regraft.concepts.split.model import Split


@dataclass(frozen=True)
class Cost:
    """`parameters` of the transformer, `megabytes` of them in a file, and `megaflops` of one pass for one image of one class."""

    parameters: int
    megabytes: float
    megaflops: float


def cost_of(split: Split, label: int = 0) -> Cost:
    """Of a model as it is; multiplications and additions are counted apart."""
    config: Any = split.transformer.config
    image = torch.zeros(1, config.in_channels, config.sample_size, config.sample_size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        split.transformer(image, timestep=torch.zeros(1, dtype=torch.long), class_labels=torch.tensor([label]))
    size = sum(one.numel() * one.element_size() for one in split.transformer.state_dict().values())
    return Cost(split.parameters, size / 1e6, counter.get_total_flops() / 1e6)


def factor_parameters(shapes: Sequence[tuple[int, int]], rank: int) -> int:
    """Of matrices (m, n) by components, without biases: sum of (m + n + 1) r."""
    return sum((m + n + 1) * rank for m, n in shapes)


def factor_flops(shapes: Sequence[tuple[int, int]], partition: Partition, tokens: int) -> int:
    """Of all matrices for one example of one class: 2 tokens (m + n) times the components that act."""
    return sum(2 * tokens * (m + n) * partition.active for m, n in shapes)


def dense_flops(shapes: Sequence[tuple[int, int]], tokens: int) -> int:
    """Of the matrices themselves: 2 tokens m n. Factors are cheaper below a rank of m n / (m + n)."""
    return sum(2 * tokens * m * n for m, n in shapes)
