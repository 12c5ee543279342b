"""Omniglot, small: characters drawn by twenty people; those held out are of other alphabets than those learned."""

import io
import zipfile
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from regraft.bias.tasks.task import Task
from regraft.datasets import fetch
from regraft.progress import step

LEARNED = {"Greek", "Latin"}  # they stand in the second file too


def omniglot(*, way: int = 5, shot: int = 1, queries: int = 5, episodes: int = 150, side: int = 16) -> Task:
    """The 136 characters of the first small set to learn from, the 106 of the second without Greek and Latin held out.

    Images (n, 1, side, side), ink 1 on 0. What a test episode holds is ``extra["episode"]``.
    """
    with step("reading Omniglot"):
        x, y, _ = read(fetch("omniglot-small", "images_background_small1.zip"), side)
        x_test, y_test, _ = read(fetch("omniglot-small", "images_background_small2.zip"), side, LEARNED)
    extra = {"episode": torch.tensor([way, shot, queries, episodes])}
    return Task(f"omniglot-{way}-way-{shot}-shot", "episodes", x, y, x_test, y_test, int(y.max()) + 1, extra)


def read(path: Path, side: int, without: Collection[str] = ()) -> tuple[Tensor, Tensor, list[str]]:
    """Images (n, 1, side, side), classes (n,), and the names of characters: alphabet/character."""
    from PIL import Image

    images, labels = [], []
    names: dict[str, int] = {}
    with zipfile.ZipFile(path) as file:
        for name in sorted(one for one in file.namelist() if one.endswith(".png") and "__MACOSX" not in one):
            alphabet, character = name.split("/")[-3:-1]
            if alphabet in without:
                continue
            labels.append(names.setdefault(f"{alphabet}/{character}", len(names)))
            images.append(np.array(Image.open(io.BytesIO(file.read(name))).convert("L"), dtype=np.uint8))
    pixels = 1 - torch.from_numpy(np.stack(images)).float().unsqueeze(1) / 255
    return adaptive_avg_pool2d(pixels, side), torch.tensor(labels), list(names)
