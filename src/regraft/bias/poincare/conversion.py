"""From a plain network to one in the ball: the same function where features are small against the radius."""

import copy

import torch
from geoopt import PoincareBall
from torch import nn

from regraft.bias.poincare.ball import ball_of
from regraft.bias.poincare.layers import PoincareConv2d, PoincareLinear
from regraft.bias.poincare.normalization import PoincareBatchNorm, unsoftened
from regraft.bias.poincare.resnet import MobiusSum, PlainSum
from regraft.errors import ParameterError


def hyperbolize(model: nn.Module, ball: PoincareBall | float = 0.1) -> nn.Module:
    """A copy of `model`, its `Conv2d`, `Linear`, batch norms and `PlainSum` in the ball; `model` stays as it is.

    Linear layers and convolutions keep their function as c tends to 0: z = weight / 2, of a convolution also over beta, and r = -bias /
    (2 |z|). A batch norm of the ball has one variance for all channels: one that was trained takes over its mean and the sum of its
    variances, and needs tuning. A sum in a model's own code stays the sum of tangent vectors: `PlainSum` is converted.

    Raises `ParameterError`: nothing to convert; grouped, dilated or transposed convolutions, padding that is not zeros; c of 0 or below.
    """
    ball = ball_of(ball)
    made, count = converted(copy.deepcopy(model), ball, "")
    if not count:
        raise ParameterError(f"{type(model).__name__} has no convolution, linear layer or batch norm: there is nothing to hyperbolize")
    return made


def converted(module: nn.Module, ball: PoincareBall, name: str) -> tuple[nn.Module, int]:
    """The module of the ball that stands for `module`, or `module` with its children so; how many were made."""
    if isinstance(module, nn.Conv2d):
        return convolution(module, ball, name), 1
    if isinstance(module, nn.Linear):
        return linear(module, ball), 1
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return batch_norm(module, ball), 1
    if isinstance(module, PlainSum):
        return MobiusSum(ball), 1
    if "ConvTranspose" in type(module).__name__:
        raise ParameterError(f"{name}: a transposed convolution has no twin in the ball")
    count = 0
    for key, child in list(module.named_children()):
        new, found = converted(child, ball, f"{name}.{key}".lstrip("."))
        setattr(module, key, new)
        count += found
    return module, count


@torch.no_grad()
def convolution(plain: nn.Conv2d, ball: PoincareBall, name: str) -> PoincareConv2d:
    if plain.groups != 1 or plain.dilation != (1, 1) or plain.padding_mode != "zeros" or isinstance(plain.padding, str):
        raise ParameterError(
            f"{name or 'the convolution'}: groups, dilation and padding other than a number of zeros have no twin in the ball"
        )
    size, bias = (plain.kernel_size[0], plain.kernel_size[1]), plain.bias is not None
    stride, padding = (plain.stride[0], plain.stride[1]), (int(plain.padding[0]), int(plain.padding[1]))
    made = PoincareConv2d(plain.in_channels, plain.out_channels, size, ball, stride=stride, padding=padding, bias=bias).to(plain.weight)
    take(made, plain.weight / made.scale, plain.bias)
    return made


@torch.no_grad()
def linear(plain: nn.Linear, ball: PoincareBall) -> PoincareLinear:
    made = PoincareLinear(plain.in_features, plain.out_features, ball, bias=plain.bias is not None, tangent=True).to(plain.weight)
    take(made, plain.weight, plain.bias)
    return made


def take(made: PoincareConv2d | PoincareLinear, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    """z = weight / 2 and r = -bias / (2 |z|)."""
    made.weight.copy_(weight / 2)
    if bias is not None and made.offset is not None:
        made.offset.copy_(-bias / (2 * made.weight.flatten(1).norm(dim=1)).clamp_min(1e-12))


@torch.no_grad()
def batch_norm(plain: nn.BatchNorm1d | nn.BatchNorm2d, ball: PoincareBall) -> PoincareBatchNorm:
    """Near the origin d = 2 |x - y|, hence the 4."""
    made = PoincareBatchNorm(plain.num_features, ball, momentum=plain.momentum or 0.1)
    if plain.affine:
        made = made.to(plain.weight)
        made.mean.copy_(plain.bias)
        made.raw_variance.copy_(unsoftened(4 * plain.weight.square().sum()))
    if plain.running_mean is not None and plain.running_var is not None:
        made.running_mean.copy_(plain.running_mean)
        made.running_var.copy_(4 * plain.running_var.sum())
    return made
