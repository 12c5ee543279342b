"""Operations of the Poincare ball on tensors of points along one dimension; numbers are those of `regraft.bias.poincare`.

The curvature is -c; `c` is a tensor without dimensions or a number above 0. Backward passes of (2) to (4) and (9) are by hand and keep
their inputs only.
"""

from typing import Any

import torch
from geoopt import PoincareBall
from torch import Tensor

from regraft.bias.poincare import radial
from regraft.bias.poincare.radial import margin
from regraft.errors import ParameterError

Curvature = Tensor | float


def ball_of(curvature: PoincareBall | float, *, learnable: bool = False) -> PoincareBall:
    """A geoopt manifold, as it is given or of `curvature` c, exact in double precision. Raises `ParameterError` unless c > 0."""
    if isinstance(curvature, PoincareBall):
        return curvature
    checked(curvature)
    return PoincareBall(torch.tensor(float(curvature), dtype=torch.float64), learnable=learnable)


def checked(c: Curvature, like: Tensor | None = None) -> Tensor:
    """`c` as a tensor of the kind of `like`. Raises `ParameterError` unless it is above 0."""
    if not isinstance(c, Tensor):
        if not 0 < c < float("inf"):
            raise ParameterError(f"curvature c = {c}: the ball of curvature -c needs a finite c above 0")
        return torch.tensor(c, dtype=None if like is None else like.dtype, device=None if like is None else like.device)
    return c if like is None else c.to(like)


def check_points(x: Tensor, c: Curvature, dim: int = -1) -> Tensor:
    """`x` itself. Raises `ParameterError` for points on or outside the ball, and numbers that are not finite."""
    c = checked(c, x)
    sizes = radial.size(x.detach(), c.detach(), dim)
    if not bool(sizes.isfinite().all()):
        raise ParameterError("points hold numbers that are not finite: look for where they were made")
    if x.numel() and float(sizes.max()) >= 1:
        raise ParameterError(
            f"{int((sizes >= 1).sum())} of {sizes.numel()} points lie on or outside the ball of c = {float(c):g}, the farthest at "
            f"{float(sizes.max()):.4g} radii: map them with exp0, or project them"
        )
    return x


def conformal(x: Tensor, c: Curvature, dim: int = -1) -> Tensor:
    """(1), with `dim` kept."""
    c = checked(c, x)
    return 2 / (1 - c * x.square().sum(dim, keepdim=True)).clamp_min(1e-15)


class MobiusAdd(torch.autograd.Function):
    """(2), where x and y may be broadcast against each other; keeps x and y."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, c: Tensor, dim: int) -> Tensor:
        ctx.save_for_backward(x, y, c)
        ctx.dim = dim
        a, b, over, *_ = parts(x, y, c, dim)
        return (a * x + b * y) / over

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
        x, y, c = ctx.saved_tensors
        a, b, over, p, xx, yy = parts(x, y, c, ctx.dim)
        ga, gb = ((u * one).sum(ctx.dim, keepdim=True) / over for one in (x, y))
        g = -(a * ga + b * gb) / over  # of the divisor
        gp, gx, gy = 2 * c * (ga + g), c * (c * yy * g - gb), c * (ga + c * xx * g)
        grad_x = (a / over * u + gp * y + 2 * gx * x).sum_to_size(x.shape)
        grad_y = (b / over * u + gp * x + 2 * gy * y).sum_to_size(y.shape)
        grad_c = (ga * (2 * p + yy) - gb * xx + 2 * g * (p + c * xx * yy)).sum()
        return grad_x, grad_y, grad_c, None


def parts(x: Tensor, y: Tensor, c: Tensor, dim: int) -> tuple[Tensor, ...]:
    """Weights of x and y and the divisor of (2); <x, y>, |x|^2, |y|^2."""
    p, xx, yy = ((s * t).sum(dim, keepdim=True) for s, t in ((x, y), (x, x), (y, y)))
    return 1 + 2 * c * p + c * yy, 1 - c * xx, (1 + 2 * c * p + c.square() * xx * yy).clamp_min(1e-15), p, xx, yy


def mobius_add(x: Tensor, y: Tensor, c: Curvature, dim: int = -1) -> Tensor:
    """(2), projected by (9): rounding may not leave the ball."""
    c = checked(c, x)
    return project(MobiusAdd.apply(x, y, c, dim), c, dim)  # type: ignore[no-untyped-call]


def project(x: Tensor, c: Curvature, dim: int = -1) -> Tensor:
    """(9)."""
    return radial.radial(radial.project, x, checked(c, x), dim)


def exp0(v: Tensor, c: Curvature, dim: int = -1) -> Tensor:
    """(3), projected."""
    return radial.radial(radial.exp0, v, checked(c, v), dim)


def log0(y: Tensor, c: Curvature, dim: int = -1) -> Tensor:
    """(4)."""
    return radial.radial(radial.log0, y, checked(c, y), dim)


def exp(x: Tensor, v: Tensor, c: Curvature, dim: int = -1) -> Tensor:
    """(5)."""
    return mobius_add(x, exp0(conformal(x, c, dim) * v / 2, c, dim), c, dim)


def log(x: Tensor, y: Tensor, c: Curvature, dim: int = -1) -> Tensor:
    """(6)."""
    return 2 / conformal(x, c, dim) * log0(mobius_add(-x, y, c, dim), c, dim)


def distance(x: Tensor, y: Tensor, c: Curvature, dim: int = -1) -> Tensor:
    """(7), with `dim` kept; its slope is 0 where x = y."""
    return 2 * norm(log0(mobius_add(-x, y, c, dim), c, dim), dim)


def norm(v: Tensor, dim: int) -> Tensor:
    return v.square().sum(dim, keepdim=True).clamp_min(1e-30).sqrt()


def gyration(u: Tensor, v: Tensor, w: Tensor, c: Curvature, dim: int = -1) -> Tensor:
    """gyr[u, v] w of (8) in closed form, w + 2 (a u + b v) / D."""
    c = checked(c, w)
    uv, uw, vw, uu, vv = ((s * t).sum(dim, keepdim=True) for s, t in ((u, v), (u, w), (v, w), (u, u), (v, v)))
    a = -c.square() * uw * vv + c * vw + 2 * c.square() * uv * vw
    b = -c.square() * vw * uu - c * uw
    return w + 2 * (a * u + b * v) / (1 + 2 * c * uv + c.square() * uu * vv).clamp_min(1e-15)


def transport(x: Tensor, y: Tensor, v: Tensor, c: Curvature, dim: int = -1) -> Tensor:
    """(8)."""
    return conformal(x, c, dim) / conformal(y, c, dim) * gyration(y, -x, v, c, dim)


def midpoint(x: Tensor, c: Curvature, weights: Tensor | None = None) -> Tensor:
    """(13) of points (n, d), with `weights` (n, 1) of 0 or more: (1, d)."""
    c = checked(c, x)
    factor = conformal(x, c)
    weights = torch.ones_like(factor) if weights is None else weights
    mean = (weights * factor * x).sum(0, keepdim=True) / (weights * (factor - 1)).sum(0, keepdim=True).clamp_min(1e-15)
    return radial.radial(radial.half_point, mean, c, -1)


def frechet_mean(x: Tensor, c: Curvature, *, steps: int = 200, tolerance: float | None = None) -> Tensor:
    """The point (1, d) with the least sum of squared distances to `x` (n, d): found step by step, differentiated through its condition.

    The slower rival of (13). The condition is mean log_mu(x) = 0; its slopes by mu and by x give those of mu.
    """
    c = checked(c, x)
    tolerance = tolerance or (1e-10 if x.dtype == torch.float64 else 1e-6)
    with torch.no_grad():
        mean = midpoint(x, c)
        for _ in range(steps):
            size = (c.sqrt() * distance(mean, x, c)).clamp_min(1e-6)
            step = log(mean, x, c).mean(0, keepdim=True) / (size / size.tanh()).mean()  # the greatest curvature of the sum of squares
            mean = exp(mean, step, c)
            if float(step.norm()) < tolerance:
                break
    if not torch.is_grad_enabled():
        return mean
    fixed, at = x.detach(), c.detach()
    slope: Tensor = torch.autograd.functional.jacobian(  # type: ignore[no-untyped-call]
        lambda mu: log(mu[None], fixed, at).mean(0), mean[0]
    )
    moved: Tensor = torch.linalg.solve(slope, log(mean, x, c).mean(0))
    return mean - moved[None]


__all__ = [
    "ball_of",
    "check_points",
    "conformal",
    "distance",
    "exp",
    "exp0",
    "frechet_mean",
    "gyration",
    "log",
    "log0",
    "margin",
    "midpoint",
]
__all__ += ["mobius_add", "project", "transport"]
