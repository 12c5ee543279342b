"""Predicted entries as a model can use them (section 2.6).

Weights are scaled by their fan-in (vision), or standardised to the model's `initializer_range` (language models, as released); tables and
position grids stay as they are; scales are squashed into (0, 2), biases into (-1, 1).
"""

from typing import Literal

import torch

from regraft.grow.predict.graph import Role, Shape

Rule = Literal["fan-in", "standardised"]


def normalised(p: torch.Tensor, role: Role, rule: Rule, initializer_range: float = 0.02) -> torch.Tensor:
    """`p`, entries of a 4-D tensor, as its role has them.

    A "vector" of factors (layer scale) is squashed as a scale is: INFERRED, no source says how those are.
    """
    if role in ("scale", "vector"):
        return 2 * torch.sigmoid(p / 2)
    if role == "bias":
        return torch.tanh(0.2 * p)
    if role in ("table", "grid"):
        return p
    if rule == "standardised":
        return p / (p.std() + 1e-7) * initializer_range
    return p * fan_in_scale(tuple(p.shape))


def fan_in_scale(shape: Shape) -> float:
    """sqrt(beta / fan_in): fan_in is the size of one output slice; beta is 2, and 1 for depth-wise kernels and those wider than high."""
    _, into, height, width = shape
    depthwise = into == 1 and height * width > 1
    return float(((1 if depthwise or height < width else 2) / (into * height * width)) ** 0.5)
