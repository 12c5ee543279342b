"""S4D: a layer over sequences that is a long convolution where all of a sequence is there, and a recurrence where it comes step by step.

Enters: hidden states (n, length, channels). Leaves: the same shape. The state (n, channels, N / 2) is what a sequence leaves behind.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from scipy.fft import next_fast_len
from torch import Tensor, nn
from torch.nn.functional import pad, softplus

from regraft.bias.ssm.discrete import Discretisation, discretise
from regraft.bias.ssm.initial import Init, InitB, check_state, s4d_init
from regraft.bias.ssm.vandermonde import BUDGET, transposed, vandermonde
from regraft.errors import ParameterError

RealPart = Literal["exp", "softplus", "relu", "none"]


@dataclass(frozen=True, kw_only=True)
class S4DConfig:
    """What a layer is. Defaults are the paper's, where it has them.

    d_model : channels H. d_state : N, counting both of a conjugate pair. init, imag_scale, random_real, b, released : see `s4d_init`;
    "mixed": the first half of the channels "lin", the others "inv". disc : "zoh", "bilinear" or "dss" (needs `l_max`). dt_min, dt_max :
    steps are log-uniform between them. dt_transform : of the parameter, "exp" or "softplus". real_transform : of the negated real part.
    n_ssm : copies of A and B, each shared by d_model / n_ssm channels; None: one a channel. train_b : B learns. bidirectional : a second
    kernel looks ahead. l_max : the longest sequence allowed; None: any. band_limit : states at or above this share of the sampling rate's
    half are left out. budget : bytes that powers take at a time.
    """

    d_model: int
    d_state: int = 64
    init: Init | Literal["mixed"] = "legs"
    imag_scale: float = 1.0
    random_real: bool = False
    b: InitB = "given"
    released: bool = False
    disc: Discretisation = "zoh"
    dt_min: float = 1e-3
    dt_max: float = 0.1
    dt_transform: Literal["exp", "softplus"] = "exp"
    real_transform: RealPart = "exp"
    n_ssm: int | None = None
    train_b: bool = True
    bidirectional: bool = False
    l_max: int | None = None
    band_limit: float | None = None
    budget: int = BUDGET

    def __post_init__(self) -> None:
        check_state(self.init, self.d_state)
        if self.d_model < 1:
            raise ParameterError(f"d_model {self.d_model}: give at least 1")
        if not 0 < self.dt_min <= self.dt_max:
            raise ParameterError(f"dt_min {self.dt_min:g}, dt_max {self.dt_max:g}: steps are above 0, the least first")
        if self.n_ssm is not None and (self.n_ssm < 1 or self.d_model % self.n_ssm):
            raise ParameterError(f"n_ssm {self.n_ssm}: must divide d_model {self.d_model}")
        if self.disc == "dss" and self.l_max is None:
            raise ParameterError("disc dss: normalises over a length, give l_max")


class S4DKernel(nn.Module):
    """The parameters of H state spaces, and their kernel.

    Steps, A and B are those that `param_groups` sets apart. Real parts are negative whatever is learned (not with real_transform "none").
    """

    def __init__(self, config: S4DConfig) -> None:
        super().__init__()
        self.config = config
        h, copies = config.d_model, config.n_ssm or config.d_model
        span = math.log(config.dt_max) - math.log(config.dt_min)
        dt = (torch.rand(h, 1) * span + math.log(config.dt_min)).exp()
        self.dt = nn.Parameter(dt.log() if config.dt_transform == "exp" else dt.expm1().log())
        a, b = self._start(copies)
        self.real = config.init == "real"
        self.a_real = nn.Parameter(_unmapped(-a.real, config.real_transform).float())
        self.a_imag = None if self.real else nn.Parameter(a.imag.float())
        self.b = nn.Parameter(self._parts(b), requires_grad=config.train_b)
        c = torch.randn(h, 1 + config.bidirectional, a.shape[1], dtype=torch.complex128)
        self.c = nn.Parameter(self._parts(c * math.sqrt(2) if self.real else c))

    def _start(self, copies: int) -> tuple[Tensor, Tensor]:
        given = self.config
        names = [given.init] * copies if given.init != "mixed" else ["lin"] * (copies - copies // 2) + ["inv"] * (copies // 2)
        drawn = "rand" in names or given.random_real or given.b == "random"
        options: dict[str, Any] = {
            "imag_scale": given.imag_scale,
            "random_real": given.random_real,
            "b": given.b,
            "released": given.released,
        }
        known = {} if drawn else {name: s4d_init(name, given.d_state, **options) for name in set(names)}  # type: ignore[arg-type]
        pairs = [known[name] if known else s4d_init(name, given.d_state, **options) for name in names]  # type: ignore[arg-type]
        return torch.stack([a for a, _ in pairs]), torch.stack([b for _, b in pairs])

    def _parts(self, x: Tensor) -> Tensor:
        """Complex numbers as parameters: (..., 2), or (..., 1) where all is real."""
        return x.real.float().unsqueeze(-1).clone() if self.real else torch.view_as_real(x.to(torch.complex64)).clone()

    def special(self) -> Iterator[nn.Parameter]:
        """Step, A and B."""
        yield from (one for one in (self.dt, self.a_real, self.a_imag, self.b) if one is not None)

    def discrete(self, rate: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
        r"""z (H, n), :math:`\bar b` (H, n), and C (H, directions, n) with the factor 2 of conjugate pairs.

        rate : steps are this much longer.
        """
        given = self.config
        size = _mapped(self.a_real, given.real_transform)
        a = torch.complex(-size, torch.zeros_like(size) if self.a_imag is None else self.a_imag)
        repeat = given.d_model // len(a)
        a, b = a.repeat_interleave(repeat, 0), _complex(self.b).repeat_interleave(repeat, 0)
        dt = (self.dt.exp() if given.dt_transform == "exp" else softplus(self.dt)) * rate
        z, factor = discretise(a, dt, given.disc, given.l_max)
        c = _complex(self.c) * (1 if self.real else 2)
        if given.band_limit is not None:
            c = c * (dt * a.imag.abs() / (2 * math.pi) < given.band_limit / 2).unsqueeze(1)
        return z, factor * b, c

    def forward(self, length: int, rate: float = 1.0) -> Tensor:
        """The kernel (H, directions, length)."""
        z, b, c = self.discrete(rate)
        return vandermonde(c * b.unsqueeze(1), z, length, budget=self.config.budget)


class S4D(nn.Module):
    r""":math:`x' = A x + B u,\ y = \mathrm{Re}\, C x + D u` for each channel, A diagonal (arXiv 2206.11893).

    `S4D(64)` or `S4D(S4DConfig(d_model=64, init="inv"))`. Called with hidden states (n, length, H), it convolves by FFT of at least twice
    the length. `prefill` takes and gives the state, `step` goes one step on; both equal the convolution.
    """

    def __init__(self, config: S4DConfig | int) -> None:
        super().__init__()
        self.config = S4DConfig(d_model=config) if isinstance(config, int) else config
        self.kernel = S4DKernel(self.config)
        self.d = nn.Parameter(torch.randn(self.config.d_model))

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, *, rate: float = 1.0) -> Tensor:
        """(n, length, H) -> (n, length, H). attention_mask : (n, length), 0 where padded: nothing is read there.

        rate : how many times slower the data are sampled than those learned from. Raises `ParameterError`: other channels, a sequence
        longer than `l_max`.
        """
        u = self._checked(hidden_states, attention_mask)
        length = u.shape[-1]
        kernel = self.kernel(length, rate)
        points = next_fast_len(2 * length, real=True)
        both = pad(kernel[:, 0], (0, points - length))
        if self.config.bidirectional:  # what lies ahead is behind the end of the circle
            ahead = kernel[:, 1]
            if self.config.released:  # there the second kernel starts at the next step
                both = both + pad(ahead.flip(-1), (points - length, 0))
            else:
                both = both + pad(ahead, (0, points - length)).flip(-1).roll(1, -1)
        y: Tensor = torch.fft.irfft(torch.fft.rfft(u, points) * torch.fft.rfft(both, points), points)[..., :length]
        return (y + self.d[:, None] * u).mT

    def initial_state(self, n: int) -> Tensor:
        """(n, H, N / 2) of zeros; of real states (n, H, N)."""
        c = _complex(self.kernel.c)
        return c.new_zeros(n, c.shape[0], c.shape[2])

    def prefill(
        self, hidden_states: Tensor, state: Tensor | None = None, attention_mask: Tensor | None = None, *, rate: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Outputs of a sequence that goes on from `state`, and the state behind it. Padding belongs on the left."""
        self._causal()
        y, u = self(hidden_states, attention_mask, rate=rate), self._checked(hidden_states, attention_mask)
        z, b, c = self.kernel.discrete(rate)
        length = u.shape[-1]
        behind = b.unsqueeze(1) * transposed(u.flip(-1).transpose(0, 1), z)  # (H, n, N)
        if state is not None:
            before = state.transpose(0, 1)
            y = y + vandermonde(c * (z.exp().unsqueeze(1) * before), z, length, budget=self.config.budget).permute(1, 2, 0)
            behind = behind + (length * z).exp().unsqueeze(1) * before
        return y, behind.transpose(0, 1)

    def step(self, hidden_state: Tensor, state: Tensor, *, rate: float = 1.0) -> tuple[Tensor, Tensor]:
        """One step: (n, H) and the state (n, H, N / 2) -> output (n, H) and the state behind it."""
        self._causal()
        z, b, c = self.kernel.discrete(rate)
        state = z.exp() * state + b * hidden_state.unsqueeze(-1)
        return (c[:, 0] * state).sum(-1).real + self.d * hidden_state, state

    def _causal(self) -> None:
        if self.config.bidirectional:
            raise ParameterError("bidirectional: such a layer looks ahead and has no steps: make one with bidirectional=False")

    def _checked(self, hidden_states: Tensor, attention_mask: Tensor | None) -> Tensor:
        """(n, H, length), zero where padded."""
        given = self.config
        if hidden_states.ndim != 3 or hidden_states.shape[-1] != given.d_model:
            raise ParameterError(f"hidden states {tuple(hidden_states.shape)}: (n, length, {given.d_model}) is asked for")
        if given.l_max is not None and hidden_states.shape[1] > given.l_max:
            raise ParameterError(
                f"a sequence of {hidden_states.shape[1]} steps: the kernel was built for l_max {given.l_max}: cut it, or build with more"
            )
        if attention_mask is not None:
            hidden_states = hidden_states * attention_mask.unsqueeze(-1).to(hidden_states.dtype)
        return hidden_states.mT


def param_groups(model: nn.Module, *, lr: float = 1e-2, weight_decay: float = 0.05, ssm_lr: float = 1e-3) -> list[dict[str, Any]]:
    """Two groups for an optimizer: step, A and B at min(`ssm_lr`, `lr`) without decay; all else."""
    apart = {id(one): one for part in model.modules() if isinstance(part, S4DKernel) for one in part.special() if one.requires_grad}
    others = [one for one in model.parameters() if one.requires_grad and id(one) not in apart]
    return [
        {"params": others, "lr": lr, "weight_decay": weight_decay},
        {"params": list(apart.values()), "lr": min(ssm_lr, lr), "weight_decay": 0.0},
    ]


def s4d_config(config: S4DConfig | int, **changes: Any) -> S4DConfig:
    """`config`, or that of so many channels, with `changes`."""
    return replace(S4DConfig(d_model=config) if isinstance(config, int) else config, **changes)


def _complex(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.contiguous()) if x.shape[-1] == 2 else torch.complex(x[..., 0], torch.zeros_like(x[..., 0]))


def _mapped(x: Tensor, how: RealPart) -> Tensor:
    """The parameter as the negated real part, above 0 but for "none"."""
    if how == "none":
        return x
    return x.exp() if how == "exp" else softplus(x) if how == "softplus" else x.relu() + 1e-4


def _unmapped(x: Tensor, how: RealPart) -> Tensor:
    return x.log() if how == "exp" else x.expm1().log() if how == "softplus" else x
