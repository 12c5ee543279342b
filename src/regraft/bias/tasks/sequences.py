"""Sequences: a noise that is to be repeated later, and the digits read pixel by pixel."""

import numpy as np
import torch
from torch import Tensor

from regraft.bias.tasks.task import ERROR, Task, digits
from regraft.errors import ParameterError


def delay(*, length: int = 256, late: int = 50, cut: float = 0.02, examples: int = 200, held_out: int = 100, seed: int = 0) -> Task:
    """Noise (n, length, 1) of unit power without frequencies above `cut` (cycles a step), and the same noise `late` steps later.

    What is scored are the steps from `late` on: the squared error over the power of what was asked for. Raises `ParameterError`: a delay
    that does not fit, a cut outside (0, 0.5].
    """
    if not 0 < late < length or not 0 < cut <= 0.5:
        raise ParameterError(
            f"delay of {late} steps in {length}, cut {cut:g}: the delay is shorter than the sequence, the cut within (0, 0.5]"
        )
    x = noise(examples + held_out, length, cut, torch.Generator().manual_seed(seed)).unsqueeze(-1)
    y = torch.zeros_like(x)
    y[:, late:] = x[:, :-late]
    return Task("delay", "sequences", x[:examples], y[:examples], x[examples:], y[examples:], 1, metric=ERROR)


def noise(n: int, length: int, cut: float, draw: torch.Generator) -> Tensor:
    """(n, length) of white noise below `cut` cycles a step, unit power each."""
    spectrum = torch.fft.rfft(torch.randn(n, length, generator=draw))
    spectrum[:, torch.arange(spectrum.shape[1]) / length > cut] = 0
    found: Tensor = torch.fft.irfft(spectrum, length)
    return found / found.square().mean(1, keepdim=True).sqrt().clamp(min=1e-12)


def digit_sequences(*, examples: int = 1000, permuted: bool = False, seed: int = 0) -> Task:
    """scikit-learn's digits as 64 steps of one pixel; `permuted`: in one random order, so that neighbours say nothing."""
    given = digits(examples=examples, seed=seed)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(64)) if permuted else torch.arange(64)
    x, x_test = (one.flatten(1)[:, order].unsqueeze(-1).contiguous() for one in (given.x, given.x_test))
    return Task("permuted-digits" if permuted else "digit-sequences", "sequences", x, given.y, x_test, given.y_test, given.classes)
