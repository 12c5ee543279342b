"""Small networks by name, that guide or are guided: those that train badly on images of a few pixels, and those that do not.

Enters: a name, the shape of an example (height, width) or (channels, height, width), the number of classes. Leaves: an `nn.Module` to
logits.
"""

import difflib
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from regraft.errors import ParameterError


class DeepFCN(nn.Module):
    """`depth` blocks of linear, batch norm, ReLU, dropout; no skips."""

    def __init__(self, inputs: int, classes: int, *, depth: int = 40, width: int = 96, dropout: float = 0.1) -> None:
        super().__init__()
        sizes = [inputs, *[width] * depth]
        blocks = [nn.Sequential(nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU(), nn.Dropout(dropout)) for a, b in pairwise(sizes)]
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.blocks(x.flatten(1)))
        return found


class ConvNet(nn.Module):
    """3 x 3 convolutions with ReLU, then the mean over places: with skips (`residual`) a small ResNet without batch norm, else a plain
    CNN.
    """

    def __init__(self, channels: int, classes: int, *, depth: int, width: int, residual: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.rest = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1) for _ in range(depth - 1)])
        self.pool, self.head, self.residual = nn.AdaptiveAvgPool2d(2), nn.Linear(4 * width, classes), residual

    def forward(self, x: Tensor) -> Tensor:
        x = relu(self.first(x if x.ndim == 4 else x[:, None]))
        for layer in self.rest:
            x = relu(x + layer(x)) if self.residual else relu(layer(x))
        found: Tensor = self.head(self.pool(x).flatten(1))
        return found


class Rows(nn.Module):
    """Rows of an image as a sequence: read by a tanh RNN, or by a transformer."""

    def __init__(self, width: int, classes: int, *, transformer: bool, layers: int, dim: int) -> None:
        super().__init__()
        self.embed = nn.Linear(width, dim)
        if transformer:
            layer = nn.TransformerEncoderLayer(dim, 4, 2 * dim, dropout=0.0, batch_first=True)
            self.body: nn.Module = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        else:
            self.body = nn.Sequential(*[_First(nn.RNN(dim, dim, batch_first=True)) for _ in range(layers)])
        self.head = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1, -2) if x.ndim == 4 else x
        found: Tensor = self.head(self.body(self.embed(x))[:, -1])
        return found


class _First(nn.Module):
    """A recurrent layer without its state."""

    def __init__(self, layer: nn.RNN) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x)[0]
        return found


Builder = Callable[[tuple[int, ...], int], nn.Module]
NETWORKS: dict[str, Builder] = {
    "deep-fcn": lambda shape, classes: DeepFCN(_pixels(shape), classes),
    "wide-fcn": lambda shape, classes: DeepFCN(_pixels(shape), classes, depth=3, width=512),
    "plain-cnn": lambda shape, classes: ConvNet(_channels(shape), classes, depth=20, width=16, residual=False),
    "resnet": lambda shape, classes: ConvNet(_channels(shape), classes, depth=7, width=16, residual=True),
    "rnn": lambda shape, classes: Rows(shape[-1], classes, transformer=False, layers=4, dim=64),
    "transformer": lambda shape, classes: Rows(shape[-1], classes, transformer=True, layers=2, dim=64),
}


def _pixels(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def _channels(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) == 3 else 1


def build(name: str, shape: tuple[int, ...], classes: int, seed: int) -> nn.Module:
    """A new network at random. Raises `ParameterError` for an unknown name, or examples that are no images of one or more channels."""
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, n=1)
        choose = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(NETWORKS)}, or a directory that was trained here"
        raise ParameterError(f"unknown network '{name}': {choose}")
    if len(shape) not in (2, 3):
        raise ParameterError(f"examples of shape {shape}: networks take (height, width) or (channels, height, width)")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[name](shape, classes)
