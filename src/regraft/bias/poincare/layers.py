"""(10) to (12) as modules: a linear layer on points or tangent vectors, a convolution on tangent vectors; their plain twins."""

import math
from typing import Any, Literal

import torch
from geoopt import PoincareBall
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from regraft.bias.poincare.ball import ball_of, check_points, checked, exp0, log0
from regraft.bias.poincare.readout import distances, readout
from regraft.errors import ParameterError

Init = Literal["eye", "centre", "hnn++"]


class Hyperplanes(nn.Module):
    """What both layers have: `weight` (k, ...), its rows the z of (10); offsets r or none; the ball of their points.

    `init` : "eye" (12), a rectangular identity on rows as they are stored; "centre", for convolutions, the middle of a channel's kernel;
    "hnn++", normal of variance 1 / (2 n k), which shrinks features layer by layer.
    """

    weight: nn.Parameter
    offset: nn.Parameter | None

    def __init__(self, shape: tuple[int, ...], ball: PoincareBall | float, bias: bool, init: Init) -> None:
        super().__init__()
        self.ball, self.init = ball_of(ball), init
        self.weight = nn.Parameter(torch.empty(shape))
        self.register_parameter("offset", nn.Parameter(torch.zeros(shape[0])) if bias else None)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        rows = self.weight.view(len(self.weight), -1)
        if self.init == "hnn++":
            rows.normal_(0, (2 * rows.numel()) ** -0.5)
        elif self.init == "centre":
            nn.init.zeros_(rows)
            kept = torch.arange(min(self.weight.shape[:2]))
            self.weight[(kept, kept, *(torch.tensor(side // 2) for side in self.weight.shape[2:]))] = 0.5
        else:
            nn.init.eye_(rows).mul_(0.5)
        if self.offset is not None:
            nn.init.zeros_(self.offset)

    def given(self, like: Tensor, dims: int) -> tuple[Tensor, Tensor, Tensor]:
        """|z|, r and c, shaped for channels at dimension 1 of `dims`."""
        shape = (1, -1) + (1,) * (dims - 2)
        norm = self.weight.flatten(1).norm(dim=1).view(shape)
        offset = torch.zeros_like(norm) if self.offset is None else self.offset.view(shape)
        return norm, offset, checked(self.ball.c, like)


class PoincareLinear(Hyperplanes):
    """(10): points (..., n) to points (..., k), or with `tangent` tangent vectors to tangent vectors.

    Raises `ParameterError` for points on or outside the ball. As c tends to 0 it is ``2 (x Z - |z| r)``, twice a plain layer.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        ball: PoincareBall | float = 0.1,
        *,
        bias: bool = True,
        init: Init = "eye",
        tangent: bool = False,
    ) -> None:
        if init == "centre":
            raise ParameterError("init centre: a linear layer has no middle: choose eye or hnn++")
        super().__init__((out_features, in_features), ball, bias, init)
        self.tangent = tangent

    def forward(self, x: Tensor) -> Tensor:
        c = checked(self.ball.c, x)
        t = x if self.tangent else log0(check_points(x, c), c)
        flat = t.reshape(-1, t.shape[-1])
        found = readout(linear(flat, self.weight), flat.square().sum(1, keepdim=True), *self.given(x, 2)).reshape(*x.shape[:-1], -1)
        return found if self.tangent else exp0(found, c)

    def logits(self, x: Tensor) -> Tensor:
        """v of (10): signed distances (..., k) to the hyperplanes."""
        t = x if self.tangent else log0(check_points(x, self.ball.c), self.ball.c)
        flat = t.reshape(-1, t.shape[-1])
        return distances(linear(flat, self.weight), flat.square().sum(1, keepdim=True), *self.given(x, 2)).reshape(*x.shape[:-1], -1)


class PoincareConv2d(Hyperplanes):
    """(11): tangent vectors (n, channels, h, w) at the origin to such; zero padding is the origin.

    It equals concatenating each patch and (10), without making patches. At the start a 3 x 3 convolution shrinks tangent vectors to about a
    third ("hnn++": an eighth); the batch norm after it restores them.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        ball: PoincareBall | float = 0.1,
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = True,
        init: Init = "eye",
    ) -> None:
        self.kernel = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        super().__init__((out_channels, in_channels, *self.kernel), ball, bias, init)
        self.stride, self.padding = stride, padding
        self.scale = beta_ratio(in_channels, math.prod(self.kernel))

    def forward(self, t: Tensor) -> Tensor:
        if t.dim() != 4 or t.shape[1] != self.weight.shape[1]:
            raise ParameterError(f"the convolution takes (n, {self.weight.shape[1]}, height, width), not {tuple(t.shape)}")
        dots = conv2d(t, self.scale * self.weight, stride=self.stride, padding=self.padding)
        ones = torch.ones(1, 1, *self.kernel, dtype=t.dtype, device=t.device)
        square = self.scale**2 * conv2d(t.square().sum(1, keepdim=True), ones, stride=self.stride, padding=self.padding)
        return readout(dots, square, *self.given(t, 4))

    def points(self, x: Tensor) -> Tensor:
        """The same on points (n, channels, h, w). Raises `ParameterError` for points on or outside the ball."""
        c = checked(self.ball.c, x)
        return exp0(self(log0(check_points(x, c, 1), c, 1)), c, 1)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, stride={self.stride}, padding={self.padding}, init={self.init}"


def beta_ratio(channels: int, places: int) -> float:
    """beta of (11)."""

    def log_beta(half: float) -> float:
        return math.lgamma(half) + math.lgamma(0.5) - math.lgamma(half + 0.5)

    return math.exp(log_beta(places * channels / 2) - log_beta(channels / 2))


def twin_of(layer: Hyperplanes) -> nn.Module:
    """What a layer tends to as c goes to 0: ``weight`` 2 z (of a convolution times beta), ``bias`` -2 |z| r."""
    bias = layer.offset is not None
    plain: Any
    if isinstance(layer, PoincareConv2d):
        k, n = layer.weight.shape[:2]
        plain = nn.Conv2d(n, k, layer.kernel, stride=layer.stride, padding=layer.padding, bias=bias)
        scale = layer.scale
    else:
        plain, scale = nn.Linear(layer.weight.shape[1], len(layer.weight), bias=bias), 1.0
    plain = plain.to(layer.weight)
    with torch.no_grad():
        plain.weight.copy_(2 * scale * layer.weight)
        if bias:
            plain.bias.copy_(-2 * layer.weight.flatten(1).norm(dim=1) * layer.offset)
    made: nn.Module = plain
    return made
