"""Residual networks whose features lie in the Poincare ball, and the same network with plain parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from geoopt import PoincareBall
from torch import Tensor, nn

from regraft.bias.poincare.ball import ball_of, checked, exp0, log0, mobius_add
from regraft.bias.poincare.layers import Init, PoincareConv2d, PoincareLinear
from regraft.bias.poincare.normalization import PoincareBatchNorm
from regraft.errors import ParameterError


class MobiusSum(nn.Module):
    """(15) of tangent vectors (n, channels, ...): f(x) + x of their points, or x + f(x) with `order` "rf"; the sum does not commute."""

    def __init__(self, ball: PoincareBall | float = 0.1, order: Literal["fr", "rf"] = "fr") -> None:
        super().__init__()
        self.ball, self.order = ball_of(ball), order

    def forward(self, f: Tensor, x: Tensor) -> Tensor:
        c = checked(self.ball.c, f)
        first, second = (f, x) if self.order == "fr" else (x, f)
        return log0(mobius_add(exp0(first, c, 1), exp0(second, c, 1), c, 1), c, 1)


class PlainSum(nn.Module):
    """f + x."""

    def forward(self, f: Tensor, x: Tensor) -> Tensor:
        return f + x


@dataclass(frozen=True)
class Geometry:
    """The parts of a network: convolution (in, out, kernel, stride), norm (channels), sum, last layer (in, out)."""

    conv: Callable[[int, int, int, int], nn.Module]
    norm: Callable[[int], nn.Module]
    sum: Callable[[], nn.Module]
    linear: Callable[[int, int], nn.Module]


class Block(nn.Module):
    """Two convolutions with norms, and what comes around them; a convolution of 1 x 1 where its shape is another."""

    def __init__(self, parts: Geometry, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = parts.conv(inputs, outputs, 3, stride), parts.norm(outputs)
        self.conv2, self.norm2 = parts.conv(outputs, outputs, 3, 1), parts.norm(outputs)
        self.skip = nn.Identity() if stride == 1 and inputs == outputs else parts.conv(inputs, outputs, 1, stride)
        self.sum, self.relu = parts.sum(), nn.ReLU()

    def forward(self, t: Tensor) -> Tensor:
        inner = self.relu(self.norm1(self.conv1(t)))
        joined: Tensor = self.relu(self.sum(self.norm2(self.conv2(inner)), self.skip(t)))
        return joined


class ResNet(nn.Module):
    """Images (n, channels, h, w) to logits (n, classes): three groups of `blocks` blocks, strides 1, 2, 2; depth 6 blocks + 2."""

    def __init__(self, parts: Geometry, classes: int, widths: Sequence[int], blocks: int, channels: int) -> None:
        super().__init__()
        if len(widths) != 3 or min(widths) < 1 or blocks < 1 or classes < 2:
            raise ParameterError(f"widths {tuple(widths)}, blocks {blocks}, classes {classes}: give three widths, a block and two classes")
        inputs = widths[0]
        self.stem = nn.Sequential(parts.conv(channels, inputs, 3, 1), parts.norm(inputs), nn.ReLU())
        layers = []
        for width, stride in zip(widths, (1, 2, 2), strict=True):
            for at in range(blocks):
                layers.append(Block(parts, inputs, width, stride if at == 0 else 1))
                inputs = width
        self.blocks, self.head = nn.Sequential(*layers), parts.linear(inputs, classes)
        self.shape = (classes, tuple(widths), blocks, channels)

    def features(self, x: Tensor) -> Tensor:
        """(n, widths[2]) before the last layer; of a hyperbolic network, tangent vectors at the origin."""
        rows: Tensor = self.blocks(self.stem(x)).mean((2, 3))
        return rows

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits


class PoincareResNet(ResNet):
    """`ResNet` in the ball of c, fixed or `learnable`, one curvature for all or `shared` = False for one a layer.

    init : (12) or its rivals. mean : of batch norms. norms : without them with False. Logits are the tangent vectors of the last layer.
    Parameters are all Euclidean: any optimizer trains it, geoopt's too. Raises `ParameterError` for c of 0 or below.
    """

    def __init__(
        self,
        classes: int,
        widths: Sequence[int] = (8, 16, 32),
        blocks: int = 3,
        channels: int = 3,
        *,
        ball: PoincareBall | float = 0.1,
        learnable: bool = False,
        shared: bool = True,
        init: Init = "eye",
        mean: Literal["midpoint", "frechet"] = "midpoint",
        norms: bool = True,
        order: Literal["fr", "rf"] = "fr",
    ) -> None:
        one = ball_of(ball, learnable=learnable)

        def own() -> PoincareBall:
            return one if shared else ball_of(float(one.c), learnable=learnable)

        parts = Geometry(
            conv=lambda n, k, side, stride: PoincareConv2d(n, k, side, own(), stride=stride, padding=side // 2, init=init),
            norm=lambda k: PoincareBatchNorm(k, own(), mean=mean) if norms else nn.Identity(),
            sum=lambda: MobiusSum(own(), order),
            linear=lambda n, k: PoincareLinear(n, k, own(), init="eye" if init == "centre" else init, tangent=True),
        )
        super().__init__(parts, classes, widths, blocks, channels)
        self.ball = one

    def points(self, x: Tensor) -> Tensor:
        """The features (n, widths[2]) as points of the ball, for hyperbolic distances."""
        return exp0(self.features(x), checked(self.ball.c, x))

    def twin(self) -> "EuclideanResNet":
        """The plain network of the same shape, newly drawn."""
        classes, widths, blocks, channels = self.shape
        return EuclideanResNet(classes, widths, blocks, channels)


class EuclideanResNet(ResNet):
    """`ResNet` of plain convolutions, batch norms, sums and a linear layer."""

    def __init__(self, classes: int, widths: Sequence[int] = (8, 16, 32), blocks: int = 3, channels: int = 3) -> None:
        parts = Geometry(
            conv=lambda n, k, side, stride: nn.Conv2d(n, k, side, stride=stride, padding=side // 2),
            norm=nn.BatchNorm2d,
            sum=PlainSum,
            linear=nn.Linear,
        )
        super().__init__(parts, classes, widths, blocks, channels)


def energy(logits: Tensor) -> Tensor:
    """(n,) -log sum exp of logits: high where an input is like none of the classes."""
    return -torch.logsumexp(logits, 1)
