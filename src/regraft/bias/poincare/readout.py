r"""(10) from inner products alone, tangent vectors in and out: what a linear layer and a convolution share.

With t the tangent vector of x, s = sqrt(c) |t| and G = sinh(2s) / s, (1) and (3) give sqrt(c) lambda_x x = sqrt(c) G t and lambda_x - 1 =
cosh(2s), so that (10) needs <t, z_k> and |t|^2 only:

    a_k = sqrt(c) G <t, z_k> cosh(2 sqrt(c) r_k) / |z_k| - cosh(2s) sinh(2 sqrt(c) r_k),  sqrt(c) w_k = sinh(2 |z_k| arsinh(a_k))

and log0(y) = w arsinh(sqrt(c) |w|) / (2 sqrt(c) |w|). No patch is made for a convolution, and the backward pass keeps the inner products
and |t|^2. Neither sinh overflows: the inner one is bounded by the border of the ball, the outer one's argument is cut off far beyond it.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regraft.bias.poincare.radial import gather, margin, near_zero, push, size

FAR = 40.0  # sinh of it, squared and summed, is still a number in single precision


@dataclass(frozen=True)
class Parts:
    """What forward and backward both need; names as above, `beta` = arsinh(a), `e` = 2 |z| beta."""

    s: Tensor
    most: float
    big_g: Tensor
    cosh_2s: Tensor
    cosh_r: Tensor
    sinh_r: Tensor
    a: Tensor
    beta: Tensor
    e: Tensor


def parts(dots: Tensor, square: Tensor, norm: Tensor, r: Tensor, c: Tensor) -> Parts:
    root, most = c.sqrt(), math.atanh(1 - margin(dots.dtype))
    s = root * square.clamp_min(0).sqrt()
    small, safe = near_zero(s)
    inside = s.clamp_max(most)
    big_g = torch.where(small, 2 + 4 / 3 * s.square() + 4 / 15 * s.square().square(), (2 * safe.clamp_max(most)).sinh() / safe)
    cosh_2s, cosh_r, sinh_r = (2 * inside).cosh(), (2 * root * r).cosh(), (2 * root * r).sinh()
    a = root * big_g * dots * (cosh_r / norm) - cosh_2s * sinh_r
    beta = a.arcsinh()
    return Parts(s, most, big_g, cosh_2s, cosh_r, sinh_r, a, beta, 2 * norm * beta)


class Readout(torch.autograd.Function):
    """Inner products (n, k, ...), |t|^2 (n, 1, ...), |z| and r of (1, k, 1, ...), c: the tangent vector (n, k, ...) of y in (10)."""

    @staticmethod
    def forward(ctx: Any, dots: Tensor, square: Tensor, norm: Tensor, r: Tensor, c: Tensor) -> Tensor:
        ctx.save_for_backward(dots, square, norm, r, c)
        w = parts(dots, square, norm, r, c).e.clamp(-FAR, FAR).sinh() / c.sqrt()
        return gather(size(w, c, 1), 1 - margin(w.dtype))[0] * w

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, ...]:
        dots, square, norm, r, c = ctx.saved_tensors
        root, it = c.sqrt(), parts(dots, square, norm, r, c)
        w = it.e.clamp(-FAR, FAR).sinh() / root
        gw, grad_c = push(gather, upstream, w, c, 1)
        grad_c = grad_c - (gw * w).sum() / (2 * c)
        ge = torch.where(it.e.abs() > FAR, 0.0, gw * it.e.clamp(-FAR, FAR).cosh() / root)
        ga = ge * 2 * norm / (1 + it.a.square()).sqrt()
        spread = ga * dots / norm * root  # d loss / d(G cosh_r)
        grad_norm = (ge * 2 * it.beta - spread * it.big_g * it.cosh_r / norm).sum_to_size(norm.shape)
        g_cosh_r, g_sinh_r = (spread * it.big_g).sum_to_size(r.shape), -(ga * it.cosh_2s).sum_to_size(r.shape)
        by_r = g_cosh_r * it.sinh_r + g_sinh_r * it.cosh_r
        by_g, by_cosh = (spread * it.cosh_r).sum(1, keepdim=True), -(ga * it.sinh_r).sum(1, keepdim=True)
        by_s = by_g * slope_over_s(it) + by_cosh * torch.where(it.s > it.most, 0.0, 2 * it.big_g)  # d loss / ds, over s
        grad_c = grad_c + (spread * it.big_g * it.cosh_r).sum() / (2 * c) + (by_r * r).sum() / root + (by_s * it.s.square()).sum() / (2 * c)
        return ga * root * it.big_g * it.cosh_r / norm, c / 2 * by_s, grad_norm, 2 * root * by_r, grad_c


def slope_over_s(it: Parts) -> Tensor:
    """G'(s) / s."""
    small, safe = near_zero(it.s)
    slope = torch.where(it.s > it.most, 0.0, 2 * it.cosh_2s) - it.big_g
    return torch.where(small, 8 / 3 + 16 / 15 * it.s.square(), slope / safe.square())


def readout(dots: Tensor, square: Tensor, norm: Tensor, r: Tensor, c: Tensor) -> Tensor:
    """`Readout`; a norm of 0 counts as 1e-15."""
    found: Tensor = Readout.apply(dots, square, norm.clamp_min(1e-15), r, c)  # type: ignore[no-untyped-call]
    return found


def distances(dots: Tensor, square: Tensor, norm: Tensor, r: Tensor, c: Tensor) -> Tensor:
    """v of (10), signed distances to hyperplanes: the logits of hyperbolic regression. Backward by autograd."""
    norm = norm.clamp_min(1e-15)
    return 2 * norm / c.sqrt() * parts(dots, square.clamp_min(1e-30), norm, r, c).beta
