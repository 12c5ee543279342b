"""Crops of eight real images, at a quarter of their resolution; the right third of each is held out."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from regraft.errors import InputError

SOURCES = ("ihc.png", "brick.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "retina.jpg")
SIDE, ACROSS = 8, 128


@dataclass(frozen=True, eq=False)
class Crops:
    """`images` (n, 3, 8, 8) in [0, 1], and the number of the source of each."""

    images: Tensor
    labels: npt.NDArray[np.int64]


def sources() -> list[Tensor]:
    """Eight images (3, 128, 128): six of scikit-image's wheel, two of scikit-learn's. Raises `InputError` where the first is missing."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise InputError("the images come from a package that is not installed: pip install --no-deps scikit-image")
    folder = Path(spec.origin).parent / "data"
    opened: list[Any] = [Image.open(folder / name).convert("RGB") for name in SOURCES]
    opened += [Image.fromarray(one) for one in load_sample_images().images]
    return [_square(image) for image in opened]


def _square(image: Any) -> Tensor:
    from PIL import Image, ImageOps

    small = ImageOps.fit(image, (ACROSS, ACROSS), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small, dtype=np.float32).transpose(2, 0, 1) / 255)


def crops(images: list[Tensor], each: int, *, held_out: bool, seed: int) -> Crops:
    """`each` crops of every image at random places, left of two thirds or, `held_out`, right of it."""
    draw = np.random.default_rng(seed)
    edge = 2 * ACROSS // 3
    low, high = (edge, ACROSS - SIDE) if held_out else (0, edge - SIDE)
    found = []
    for image in images:
        for _ in range(each):
            top, left = int(draw.integers(ACROSS - SIDE + 1)), int(draw.integers(low, high + 1))
            found.append(image[:, top : top + SIDE, left : left + SIDE])
    return Crops(torch.stack(found), np.repeat(np.arange(len(images)), each))


def grids(images: list[Tensor], rows: int, columns: int, stride: int, seed: int) -> Tensor:
    """(images, rows, columns, 3, 8, 8): neighbouring held-out crops, `stride` pixels from each other."""
    draw = np.random.default_rng(seed)
    edge, found = 2 * ACROSS // 3, []
    for image in images:
        top = int(draw.integers(ACROSS - SIDE - (rows - 1) * stride + 1))
        left = int(draw.integers(edge, ACROSS - SIDE - (columns - 1) * stride + 1))
        places = [(top + i * stride, left + j * stride) for i in range(rows) for j in range(columns)]
        found.append(torch.stack([image[:, y : y + SIDE, x : x + SIDE] for y, x in places]).reshape(rows, columns, 3, SIDE, SIDE))
    return torch.stack(found)


def seams(image: Tensor, tiles: int) -> tuple[float, float]:
    """Mean absolute step across the borders of `tiles` x `tiles` tiles, and elsewhere, of an image (c, h, w)."""
    across, down = (image[..., 1:] - image[..., :-1]).abs(), (image[..., 1:, :] - image[..., :-1, :]).abs()
    side = image.shape[-1] // tiles
    at = torch.arange(image.shape[-1] - 1) % side == side - 1
    border = torch.cat([across[..., at].flatten(), down[..., at, :].flatten()])
    other = torch.cat([across[..., ~at].flatten(), down[..., ~at, :].flatten()])
    return float(border.mean()), float(other.mean())
