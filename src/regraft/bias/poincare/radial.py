r"""Maps that only stretch, f(v) = phi(sigma) v with sigma = sqrt(c) |v|; the backward pass keeps the input alone.

With delta = phi'(sigma) / sigma and upstream u: grad v = phi u + c delta <u, v> v, and grad c = sum delta sigma^2 <u, v> / (2c). Where a
map is cut off at the border of the ball, phi = const / sigma and delta = -phi / sigma^2.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Stretch = Callable[[Tensor, float], tuple[Tensor, Tensor]]  # (sigma, greatest radius) to (phi, delta)


def margin(dtype: torch.dtype) -> float:
    """epsilon of (9): 1e-5 in double precision, else 4e-3."""
    return 1e-5 if dtype == torch.float64 else 4e-3


def near_zero(sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Where differences of nearly equal numbers are replaced by their series, and sigma as a divisor there."""
    small = sigma < (1e-3 if sigma.dtype == torch.float64 else 3e-2)
    return small, torch.where(small, 1.0, sigma)


def exp0(sigma: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """(3), cut off at the radius."""
    small, safe = near_zero(sigma)
    most, square = math.atanh(radius), sigma.square()
    tanh = safe.clamp_max(most).tanh()
    phi = torch.where(small, 1 - square / 3 + 2 / 15 * square.square(), tanh / safe)
    slope = torch.where(sigma > most, 0.0, 1 - tanh.square())
    return phi, torch.where(small, -2 / 3 + 8 / 15 * square, (slope - phi) / safe.square())


def log0(sigma: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """(4); points beyond the radius are taken as on it."""
    small, safe = near_zero(sigma)
    inside, square = safe.clamp_max(radius), sigma.square()
    phi = torch.where(small, 1 + square / 3 + square.square() / 5, inside.atanh() / safe)
    slope = torch.where(sigma > radius, 0.0, 1 / (1 - inside.square()))
    return phi, torch.where(small, 2 / 3 + 4 / 5 * square, (slope - phi) / safe.square())


def project(sigma: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """(9)."""
    outside = sigma > radius
    phi = torch.where(outside, radius / sigma.clamp_min(radius), 1.0)
    return phi, torch.where(outside, -phi / sigma.clamp_min(radius).square(), 0.0)


def half_point(sigma: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Half of a point in the ball: m / (1 + sqrt(1 - c |m|^2)), for (13)."""
    root = (1 - sigma.square()).clamp_min(1e-12 if sigma.dtype == torch.float64 else 1e-7).sqrt()
    phi = 1 / (1 + root)
    return phi, phi.square() / root


def gather(sigma: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """log0 of the last step of (10), arsinh(sigma) / (2 sigma), cut off at the tangent vector of the radius."""
    small, safe = near_zero(sigma)
    most, square = math.atanh(radius), sigma.square()
    half = torch.arcsinh(safe) / 2
    phi = torch.where(small, 0.5 - square / 12 + 3 / 80 * square.square(), half.clamp_max(most) / safe)
    slope = torch.where(half > most, 0.0, 0.5 / (1 + safe.square()).sqrt())
    return phi, torch.where(small, -1 / 6 + 3 / 20 * square, (slope - phi) / safe.square())


def size(v: Tensor, c: Tensor, dim: int) -> Tensor:
    """sqrt(c) |v| along `dim`, which is kept."""
    return (c * v.square().sum(dim, keepdim=True)).sqrt()


def push(stretch: Stretch, u: Tensor, v: Tensor, c: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The gradients of v and c."""
    sigma = size(v, c, dim)
    phi, delta = stretch(sigma, 1 - margin(v.dtype))
    along = (u * v).sum(dim, keepdim=True)
    return phi * u + c * delta * along * v, (delta * sigma.square() * along).sum() / (2 * c)


class Radial(torch.autograd.Function):
    """f(v) = phi(sqrt(c) |v|) v along `dim`."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, c: Tensor, stretch: Stretch, dim: int) -> Tensor:
        ctx.save_for_backward(v, c)
        ctx.stretch, ctx.dim = stretch, dim
        return stretch(size(v, c, dim), 1 - margin(v.dtype))[0] * v

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        v, c = ctx.saved_tensors
        grad_v, grad_c = push(ctx.stretch, u, v, c, ctx.dim)
        return grad_v, grad_c, None, None


def radial(stretch: Stretch, v: Tensor, c: Tensor, dim: int) -> Tensor:
    found: Tensor = Radial.apply(v, c, stretch, dim)  # type: ignore[no-untyped-call]
    return found
