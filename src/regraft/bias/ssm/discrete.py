"""A diagonal state space in discrete time, by zero-order hold, the bilinear rule, or the normalisation of DSS."""

from typing import Literal

import torch
from torch import Tensor

Discretisation = Literal["zoh", "bilinear", "dss"]
SMALL = 1e-3  # |z| below which (exp(z) - 1) / z is a series


def discretise(a: Tensor, dt: Tensor, how: Discretisation, length: int | None = None) -> tuple[Tensor, Tensor]:
    r"""z and the factor of B, so that the state goes on by :math:`x \leftarrow e^z x + \mathrm{factor}\, b\, u` (section 3.1).

    a : complex (H, N). dt : (H, 1). "zoh": :math:`z = \Delta a`, factor :math:`(e^z - 1) / a`, with its limit :math:`\Delta` at 0.
    "bilinear": :math:`e^z = (1 + \Delta a / 2) / (1 - \Delta a / 2)`, factor :math:`\Delta / (1 - \Delta a / 2)`.
    "dss": as "zoh", divided by :math:`e^{L z} - 1`, which makes the powers of a sequence of `length` L add up to 1 / a.
    """
    if how == "bilinear":
        half = dt * a / 2
        return ((1 + half) / (1 - half)).log(), dt / (1 - half)
    z = dt * a
    if how == "dss":
        assert length is not None
        return z, z.expm1() / (a * (length * z).expm1())
    return z, dt * growth(z)


def growth(z: Tensor) -> Tensor:
    """(exp(z) - 1) / z, by its series near 0."""
    near = z.abs() < SMALL
    safe = torch.where(near, torch.ones_like(z), z)
    return torch.where(near, 1 + z / 2 * (1 + z / 3 * (1 + z / 4)), safe.expm1() / safe)
