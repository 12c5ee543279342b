r"""Initial values of a diagonal state space (arXiv 2206.11893, section 4): where a sequence layer starts.

Enters: a name and the state size N. Leaves: :math:`a_n` and :math:`b_n` (N / 2,), one of each conjugate pair, or (N,) real ones.
"""

import math
from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Tensor

from regraft.errors import ParameterError

Init = Literal["lin", "inv", "legs", "real", "rand", "inv2", "quad"]
InitB = Literal["given", "alternating", "random"]


def s4d_init(
    init: Init,
    d_state: int = 64,
    *,
    imag_scale: float = 1.0,
    random_real: bool = False,
    b: InitB = "given",
    released: bool = False,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""State matrix and input of one channel, complex128; with "real" (N,), else (N / 2,) with imaginary parts of 0 or more.

    Parameters
    ----------
    init : "lin" :math:`-1/2 + i \pi n`; "inv" :math:`-1/2 + i (N / \pi)(N / (2n + 1) - 1)`; "legs": eigenvalues of the normal part of
        HiPPO-LegS; "real" :math:`-(n + 1)`; ablations: "rand" (imaginary parts log-normal), "inv2" N / (n + 1), "quad" (2n + 1)^2 / pi.
    d_state : N, counting both of a pair. imag_scale : of imaginary parts. random_real : real parts uniform in (-1, 0).
    b : "given": 1, and for "legs" half of the projected input (theorem 3.3), with phases turned to make it positive; "alternating" signs;
        "random" complex normal.
    released : for "legs" the whole input with its imaginary part held within 2, as in the authors' code.

    Raises `ParameterError`: an unknown name, an odd or small N.
    """
    if init not in get_args(Init):
        raise ParameterError(f"init {init}: choose {', '.join(get_args(Init))}")
    check_state(init, d_state)
    n = torch.arange(d_state if init == "real" else d_state // 2, dtype=torch.float64)
    if init == "real":
        a = torch.complex(-(n + 1), torch.zeros_like(n))
        given = torch.ones_like(a)
    elif init == "legs":
        values, given = legs(d_state)[1:3]
        a = values.clone()
        given = torch.complex(given.real, given.imag.clamp(-2, 2)) if released else torch.complex(given.abs() / 2, torch.zeros_like(n))
    else:
        imaginary = {
            "lin": math.pi * n,
            "inv": d_state / math.pi * (d_state / (2 * n + 1) - 1),
            "inv2": d_state / (n + 1),
            "quad": (2 * n + 1).square() / math.pi,
        }
        part = torch.randn(len(n), dtype=torch.float64, generator=generator).exp() if init == "rand" else imaginary[init]
        a = torch.complex(torch.full_like(n, -0.5), part)
        given = torch.ones_like(a)
    if random_real:
        a = torch.complex(-torch.rand(len(n), dtype=torch.float64, generator=generator).clamp(min=1e-3), a.imag)
    if b == "alternating":
        given = given * (1 - 2 * (n % 2))
    elif b == "random":
        given = torch.randn(len(n), dtype=torch.complex128, generator=generator)
        given = given.real.to(torch.complex128) if init == "real" else given
    return torch.complex(a.real, a.imag * imag_scale), given


def check_state(init: str, d_state: int) -> None:
    """Raise `ParameterError` for a state size that cannot be had."""
    if d_state < 1 or (init != "real" and d_state % 2):
        raise ParameterError(
            f"d_state {d_state}: states stand in conjugate pairs, give an even number (next: {max(2, d_state + d_state % 2)}) "
            'or init "real"'
        )


@lru_cache(maxsize=16)
def legs(d_state: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""HiPPO-LegS without its rank-1 part: :math:`S = A + P P^*` (N, N), and the half of its eigenvalues with positive imaginary parts.

    Returns S (float64), eigenvalues (N / 2,), :math:`V^* B` (N / 2,), V (N, N / 2). :math:`S + 1/2` is skew: a Hermitian solver is exact.
    """
    n = torch.arange(d_state, dtype=torch.float64)
    root = (2 * n + 1).sqrt()
    a = -torch.outer(root, root).tril(-1) - torch.diag(n + 1)
    p = (n + 0.5).sqrt()
    s = a + torch.outer(p, p)
    skew = s + 0.5 * torch.eye(d_state, dtype=torch.float64)
    imaginary, vectors = torch.linalg.eigh(-1j * skew)
    values = torch.complex(torch.full_like(imaginary, -0.5), imaginary)[d_state // 2 :]
    vectors = vectors[:, d_state // 2 :]
    return s, values, vectors.mH @ root.to(vectors.dtype), vectors
