r"""The kernel of a diagonal state space, :math:`K_\ell = \mathrm{Re} \sum_n c_n e^{\ell z_n}`, without its H x N x L powers.

With :math:`\ell = q T + r` and T near the root of L, each power is one of L / T coarse times one of T fine ones, so the sum is a real
product of matrices (L / T, 2N) and (2N, T) for each channel. Both sets come from an exponential of their own, with phases in float64: no
power is a product of more than two. The backward pass makes them again and keeps nothing but c and z.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BUDGET = 64 * 2**20  # bytes that powers may take at a time


def vandermonde(c: Tensor, z: Tensor, length: int, *, budget: int = BUDGET) -> Tensor:
    r"""Re :math:`\sum_n c_n e^{\ell z_n}` for :math:`\ell` = 0 .. length - 1.

    c : complex (H, K, N), K sums over the same powers. z : complex (H, N), with real parts of at most 0. budget : bytes that intermediate
    values take at most, by blocks of channels (one channel at least). Returns (H, K, length); gradients are exact.
    """
    found: Tensor = _Vandermonde.apply(c, z, length, budget)  # type: ignore[no-untyped-call]
    return found


def transposed(u: Tensor, z: Tensor) -> Tensor:
    r""":math:`\sum_\ell u_\ell e^{\ell z_n}`: u real (H, K, L), z (H, N) -> complex (H, K, N)."""
    (cos, sin), (coarse_cos, coarse_sin), fine = _powers(z, u.shape[-1], u.dtype)
    inner = _folded(u, fine) @ torch.cat([cos, sin], 1).mT  # (H, K Q, 2N)
    inside = torch.complex(*inner.view(len(u), u.shape[1], -1, inner.shape[-1]).chunk(2, -1))
    return (torch.complex(coarse_cos, coarse_sin).unsqueeze(1) * inside).sum(2)


class _Vandermonde(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, c: Tensor, z: Tensor, length: int, budget: int) -> Tensor:
        ctx.save_for_backward(c, z)
        ctx.block = _block(c, length, budget)
        found = c.real.new_empty(*c.shape[:2], length)
        for at in range(0, len(c), ctx.block):
            part = slice(at, at + ctx.block)
            (cos, sin), (coarse_cos, coarse_sin), _ = _powers(z[part], length, found.dtype)
            scaled = c[part].unsqueeze(2) * torch.complex(coarse_cos, coarse_sin).unsqueeze(1)  # (h, K, Q, N)
            sums = torch.cat([scaled.real, -scaled.imag], -1).flatten(1, 2) @ torch.cat([cos, sin], 1)
            found[part] = sums.view(len(sums), c.shape[1], -1)[..., :length]
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, Tensor, None, None]:
        r"""With S0 and S1 the sums of :math:`g_\ell e^{\ell z}` and :math:`\ell g_\ell e^{\ell z}`: conj(S0), and conj(c S1) over K."""
        c, z = ctx.saved_tensors
        by_c, by_z = torch.empty_like(c), torch.empty_like(z)
        for at in range(0, len(c), ctx.block):
            part = slice(at, at + ctx.block)
            (cos, sin), coarse, fine = _powers(z[part], above.shape[-1], above.dtype)
            r = torch.arange(fine, dtype=above.dtype, device=above.device)
            weighted = _folded(above[part], fine) @ torch.cat([cos, sin, r * cos, r * sin], 1).mT  # (h, K Q, 4N)
            real, imag, real_r, imag_r = weighted.view(len(weighted), c.shape[1], -1, weighted.shape[-1]).chunk(4, -1)
            outer = torch.complex(*coarse).unsqueeze(1)
            q = torch.arange(outer.shape[2], dtype=above.dtype, device=above.device)[:, None] * fine
            zeroth = outer * torch.complex(real, imag)
            first = (q * zeroth + outer * torch.complex(real_r, imag_r)).sum(2)
            by_c[part] = zeroth.sum(2).conj()
            by_z[part] = (c[part] * first).sum(1).conj()
        return by_c, by_z, None, None


def _powers(z: Tensor, length: int, dtype: torch.dtype) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], int]:
    """Fine powers (H, N, T) and coarse ones (H, Q, N), each as real and imaginary parts; T."""
    fine = max(1, math.isqrt(max(0, length - 1)) + 1)
    steps = torch.arange(fine, dtype=torch.float64, device=z.device)
    rows = torch.arange(-(-length // fine), dtype=torch.float64, device=z.device) * fine
    wide = z.to(torch.complex128)
    return _polar(wide.unsqueeze(-1), steps, dtype), _polar(wide.unsqueeze(1), rows[:, None], dtype), fine


def _polar(z: Tensor, times: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Parts of exp(times z). Phases are taken in float64 and to within a turn, sines and cosines in `dtype`."""
    turns = z.imag * times / (2 * math.pi)
    angle = ((turns - turns.detach().round()) * (2 * math.pi)).to(dtype)
    size = (z.real * times).to(dtype).exp()
    return size * angle.cos(), size * angle.sin()


def _folded(u: Tensor, fine: int) -> Tensor:
    """(H, K, L) -> (H, K Q, T), with zeros behind the end."""
    padded = torch.nn.functional.pad(u, (0, -u.shape[-1] % fine))
    return padded.reshape(len(u), -1, fine)


def _block(c: Tensor, length: int, budget: int) -> int:
    """Channels at a time: powers in float64 and in the kernel's type, the products, and the sums."""
    fine = math.isqrt(max(0, length - 1)) + 1
    wide = 48 * c.shape[2] * fine + c.shape[1] * (40 * c.shape[2] * fine + 8 * length)
    return max(1, min(len(c), budget // wide))
