"""Digits whose color tells their class, but not in the same way everywhere.

The class is whether the digit is below 5, with noise; the color is the class, flipped with a probability that is the environment's.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from regraft.bias.tasks.task import WORST, Task
from regraft.datasets.mnist import mnist


def colored(
    name: str,
    images: npt.NDArray[np.float32],
    digits: npt.NDArray[np.int64],
    *,
    train: int,
    test: int,
    noise: float,
    flips: Sequence[float],
    test_flips: Sequence[float] = (0.9, 0.5, 0.1),
    seed: int = 0,
) -> Task:
    """`images` (n, h, w) as (n, 2, h, w), empty but in the color's channel; noise and flips are drawn by `seed`.

    `train` examples, as many in each environment of `flips`; `test` others, all of them in each of `test_flips`.
    """
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(digits))[: train + test]
    pixels = torch.from_numpy(np.ascontiguousarray(images[order]))
    label = torch.from_numpy((digits[order] < 5) ^ (draw.random(len(order)) < noise))
    where = torch.arange(train) * len(flips) // train
    chance = torch.tensor(flips)[where].numpy()
    x = paint(pixels[:train], label[:train] ^ torch.from_numpy(draw.random(train) < chance))
    held = len(order) - train
    sides = [paint(pixels[train:], label[train:] ^ torch.from_numpy(draw.random(held) < flip)) for flip in test_flips]
    extra = {"environment": where, "environment_test": torch.arange(len(test_flips)).repeat_interleave(held)}
    y = label.long()
    return Task(name, "environments", x, y[:train], torch.cat(sides), y[train:].repeat(len(test_flips)), 2, extra, WORST)


def paint(pixels: torch.Tensor, color: torch.Tensor) -> torch.Tensor:
    """(n, h, w) as (n, 2, h, w)."""
    sides = torch.stack([color, ~color], 1).to(pixels.dtype)
    return pixels[:, None] * sides[:, :, None, None]


def colored_mnist(*, train: int = 5000, test: int = 5000, seed: int = 0) -> Task:
    """14 x 14, labels wrong for a quarter, color for 10 and 20 %, held out for 90, 50 and 10 %: color is the easy feature."""
    images, digits = mnist()
    return colored("colored_mnist", images[:, ::2, ::2], digits, train=train, test=test, noise=0.25, flips=(0.1, 0.2), seed=seed)


def inverse_colored_mnist(*, train: int = 5000, test: int = 5000, seed: int = 0) -> Task:
    """As `colored_mnist`, with labels wrong for 10 % and color for 20 and 25 %: the form is the easier feature."""
    images, digits = mnist()
    return colored("inverse_colored_mnist", images[:, ::2, ::2], digits, train=train, test=test, noise=0.1, flips=(0.2, 0.25), seed=seed)


def colored_digits(*, train: int = 900, test: int = 800, seed: int = 0) -> Task:
    """As `colored_mnist`, of scikit-learn's 8 x 8 digits: needs no download."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images, digits = (found.images / 16).astype(np.float32), found.target.astype(np.int64)
    return colored("colored_digits", images, digits, train=train, test=test, noise=0.25, flips=(0.1, 0.2), seed=seed)
