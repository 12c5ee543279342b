"""Many classes, few examples: the 242 characters of Omniglot's two small sets, 15 drawings of each to learn from and 5 held out."""

import io
import zipfile

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from regraft.bias.tasks.task import Task
from regraft.datasets import fetch
from regraft.progress import step

FILES = ("images_background_small1.zip", "images_background_small2.zip")
LEARNED = 15  # drawings of a character, of 20


def characters(*, side: int = 16) -> Task:
    """Images (n, 1, side, side), ink 1 on 0; the class is the character. Greek and Latin stand in both files and are taken once."""
    drawings: dict[str, list[Tensor]] = {}
    with step("reading Omniglot"):
        for number, file in enumerate(FILES):
            for name, drawing in _drawings(file):
                if number == 0 or not name.startswith(("Greek/", "Latin/")):
                    drawings.setdefault(name, []).append(drawing)
    images = torch.stack([torch.stack(drawings[name]) for name in sorted(drawings)])  # (characters, 20, 1, 105, 105)
    pixels = adaptive_avg_pool2d(images.flatten(0, 1), side).view(*images.shape[:2], 1, side, side)
    classes = torch.arange(len(pixels)).unsqueeze(1).expand(-1, images.shape[1])
    sides = ((pixels[:, part].flatten(0, 1), classes[:, part].flatten()) for part in (slice(LEARNED), slice(LEARNED, None)))
    (x, y), (x_test, y_test) = sides
    return Task("omniglot-characters", "labels", x.contiguous(), y.contiguous(), x_test.contiguous(), y_test.contiguous(), len(pixels))


def _drawings(file: str) -> list[tuple[str, Tensor]]:
    """alphabet/character and the drawing (1, 105, 105), in the order of the names."""
    from PIL import Image

    found = []
    with zipfile.ZipFile(fetch("omniglot-small", file)) as archive:
        for name in sorted(one for one in archive.namelist() if one.endswith(".png") and "__MACOSX" not in one):
            ink = np.array(Image.open(io.BytesIO(archive.read(name))).convert("L"), dtype=np.float32)
            found.append(("/".join(name.split("/")[-3:-1]), 1 - torch.from_numpy(ink).unsqueeze(0) / 255))
    return found
