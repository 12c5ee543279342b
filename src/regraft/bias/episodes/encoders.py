"""Encoders of small images: Conv-4 and ResNet-12, averaged over places to one vector an image."""

from itertools import pairwise

import torch
from torch import Tensor, nn


class GlobalMean(nn.Module):
    """(n, c, h, w) to (n, c)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def conv_4(inputs: int = 1, channels: int = 64) -> nn.Sequential:
    """Four blocks of convolution, batch norm, rectifier and halving, while there is something to halve."""
    blocks = [
        nn.Sequential(
            nn.Conv2d(inputs if at == 0 else channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
        )
        for at in range(4)
    ]
    return nn.Sequential(*blocks, GlobalMean())


class ResidualBlock(nn.Module):
    """Three 3 x 3 convolutions beside a 1 x 1, leaky rectifiers of slope 0.1, then halving."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        widths, layers = [inputs, outputs, outputs, outputs], []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.1)]
        self.body = nn.Sequential(*layers[:-1])
        self.skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.after = nn.Sequential(nn.LeakyReLU(0.1), nn.MaxPool2d(2, ceil_mode=True))

    def forward(self, x: Tensor) -> Tensor:
        joined: Tensor = self.after(self.body(x) + self.skip(x))
        return joined


def resnet_12(inputs: int = 1, channels: int = 64) -> nn.Sequential:
    """Four residual blocks of channels, 2, 4 and 8 times as many."""
    widths = [inputs, *(channels * 2**at for at in range(4))]
    return nn.Sequential(*(ResidualBlock(a, b) for a, b in pairwise(widths)), GlobalMean())


def encoder_of(kind: str, example: Tensor, channels: int) -> nn.Module:
    """The encoder called `kind` for images like `example` (c, h, w), with weights drawn from PyTorch's generator."""
    return {"conv-4": conv_4, "resnet-12": resnet_12}[kind](example.shape[0], channels)


@torch.no_grad()
def embed(model: nn.Module, x: Tensor, block: int = 512) -> Tensor:
    """(n, d) of (n, c, h, w), as in inference."""
    model.eval()
    return torch.cat([model(part) for part in torch.split(x, block)])
