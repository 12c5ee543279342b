"""Pictures by class: a folder a class of images or of latents, or scikit-learn's digits.

Enters: a folder or a name, perhaps names of classes. Leaves: `Pictures`, values from -1 to 1 (latents as they are).
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class Pictures:
    """`images` (n, C, H, W), `labels` (n,) ids among `names`. `latent` : of an encoder, no pixels. `source` : where they are from."""

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    latent: bool
    source: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.images.numpy().tobytes() + self.labels.numpy().tobytes() + repr(self.names).encode()).hexdigest()

    def of(self, names: Sequence[str]) -> "Pictures":
        """Those of some classes, numbered anew."""
        ids = torch.full((len(self.names),), -1)
        for number, name in enumerate(names):
            ids[self.names.index(name)] = number
        rows = ids[self.labels] >= 0
        return replace(self, images=self.images[rows], labels=ids[self.labels[rows]], names=tuple(names))

    def divided(self, share: float | int, seed: int) -> tuple["Pictures", "Pictures"]:
        """`share` of each class by chance (a whole number: so many images), and the rest."""
        order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(seed))
        first: list[int] = []
        for label in range(len(self.names)):
            rows = order[self.labels[order] == label]
            first += rows[: share if isinstance(share, int) else round(share * len(rows))].tolist()
        chosen = torch.zeros(len(self.images), dtype=torch.bool)
        chosen[first] = True
        left, right = (replace(self, images=self.images[mask], labels=self.labels[mask]) for mask in (chosen, ~chosen))
        return left, right


def open_pictures(source: str | Path, classes: str | None = None, *, side: int | None = None) -> Pictures:
    """`digits`, or a folder with one folder a class. `classes` : some of them, "0-5" or "cat,dog". `side` : pixels that images are cut and
    scaled to.

    Raises `InputError`: no such folder, no images, broken ones, ones of several sizes (where no `side` is given), a class without any.
    """
    if str(source) == "digits":
        from sklearn.datasets import load_digits

        found = load_digits()
        images = torch.from_numpy(found.images).float()[:, None] / 8 - 1
        everything = Pictures(images, torch.from_numpy(found.target).long(), tuple(str(one) for one in range(10)), False, "digits")
    else:
        everything = _from_folder(Path(source), side)
    return everything if classes is None else everything.of(chosen(everything.names, classes))


def chosen(names: Sequence[str], classes: str) -> list[str]:
    """`"0-2,7"` -> 0, 1, 2, 7. Raises `InputError` for a name that is none of `names`, or that comes twice."""
    found: list[str] = []
    for part in (one.strip() for one in classes.split(",") if one.strip()):
        if part not in names and (ends := re.fullmatch(r"(\d+)-(\d+)", part)):
            found += [str(one) for one in range(int(ends[1]), int(ends[2]) + 1)]
        else:
            found.append(part)
    lost = [one for one in found if one not in names]
    if lost or not found:
        raise InputError(f"--classes {classes}: {f'no class {lost[0]!r}' if lost else 'names none'}: there are {', '.join(names)}")
    if len(set(found)) < len(found):
        raise InputError(f"--classes {classes}: a class comes twice")
    return found


def _from_folder(folder: Path, side: int | None) -> Pictures:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: give one with a folder of images a class, or digits")
    classes = sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
    if not classes:
        raise InputError(f"{folder}: has no folder a class: put the images of each class into one of its name")
    files = {one: sorted(path for path in one.iterdir() if path.suffix.lower() in (*SUFFIXES, ".npy")) for one in classes}
    if empty := [one for one, found in files.items() if not found]:
        raise InputError(f"{empty[0]}: no images ({', '.join(SUFFIXES)}) and no latents (.npy)")
    kinds = {path.suffix.lower() == ".npy" for found in files.values() for path in found}
    if len(kinds) > 1:
        raise InputError(f"{folder}: holds images and latents (.npy): give one kind")
    latent = kinds.pop()
    read = [(path, _latents(path) if latent else _image(path, side)) for found in files.values() for path in found]
    channels = max(one.shape[0] for _, one in read)
    arrays = [(path, one if latent or one.shape[0] == channels else np.repeat(one, channels, 0)) for path, one in read]
    shape = arrays[0][1].shape
    for path, one in arrays:
        if one.shape != shape:
            raise InputError(f"{path}: {one.shape}, others are {shape}: {'' if latent else 'add --side, or '}give ones of one size")
    labels = [number for number, one in enumerate(classes) for _ in files[one]]
    return Pictures(
        torch.from_numpy(np.stack([one for _, one in arrays])),
        torch.tensor(labels),
        tuple(one.name for one in classes),
        latent,
        str(folder),
    )


def _image(path: Path, side: int | None) -> Any:
    """(C, H, W) float32; the middle square where a side is given."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            image = image.convert("L" if image.mode in ("L", "1", "I;16") else "RGB")
            if side is not None:
                image = ImageOps.fit(image, (side, side))
            values = np.asarray(image, dtype=np.float32) / 127.5 - 1
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as an image ({error}): replace or remove it") from None
    if values.shape[0] != values.shape[1]:
        raise InputError(f"{path}: {values.shape[1]} x {values.shape[0]} pixels: add --side N, which cuts the middle square")
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1).copy()


def _latents(path: Path) -> Any:
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError):
        raise InputError(f"{path}: not an array of numbers that numpy wrote") from None
    if values.ndim != 3 or values.dtype.kind not in "fiu" or values.shape[1] != values.shape[2] or not np.isfinite(values).all():
        raise InputError(f"{path}: {values.shape} {values.dtype}: a latent is (channels, side, side), finite numbers")
    return values.astype(np.float32)
