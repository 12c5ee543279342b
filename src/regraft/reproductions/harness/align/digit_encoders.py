"""Four encoders of scikit-learn's digits, trained apart: other widths, activations and starts.

Enters: a seed. Leaves: each encoder's vectors (64 of them an image) of the training and test images, and the classes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.datasets import load_digits
from torch import nn

SPLIT = 0  # the same images are test images under every seed
TRAIN = 1_300  # of 1,797 images
KINDS: tuple[tuple[int, type[nn.Module]], ...] = ((96, nn.ReLU), (128, nn.GELU), (160, nn.Tanh), (128, nn.ReLU))
DIM, CLASSES, EPOCHS, BATCH, LR = 64, 10, 30, 32, 1e-3


@dataclass(frozen=True)
class Digits:
    """Vectors by encoder, (train, test), and the classes of either side."""

    vectors: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]]
    labels: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def digit_encoders(seed: int, epochs: int = EPOCHS, kinds: int = len(KINDS)) -> Digits:
    """Train `kinds` encoders with a classifier each, each from a start of its own; the classifiers are dropped."""
    data = load_digits()
    order = np.random.default_rng(SPLIT).permutation(len(data.target))
    images, labels = torch.from_numpy(data.data[order] / 16).float(), torch.from_numpy(data.target[order])
    vectors = {}
    for number, (width, activation) in enumerate(KINDS[:kinds]):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(100 * seed + number)
            encoder = nn.Sequential(nn.Linear(64, width), activation(), nn.Linear(width, width), activation(), nn.Linear(width, DIM))
            _train(nn.Sequential(encoder, nn.LayerNorm(DIM), nn.Linear(DIM, CLASSES)), images[:TRAIN], labels[:TRAIN], epochs)
        with torch.inference_mode():
            found = encoder(images).numpy()
        vectors[f"{activation.__name__} {width} #{number}"] = (found[:TRAIN], found[TRAIN:])
    return Digits(vectors, (labels[:TRAIN].numpy(), labels[TRAIN:].numpy()))


def _train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, epochs: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, fused=True)
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(images)), BATCH):
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
