"""Images from a folder, embeddings from a file, labels from a table: read, checked against each other, before anything long begins.

Images stand in the order of their names, and embeddings in the order of the images.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from regraft.errors import InputError

KINDS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
HELD = 2_000_000_000  # bytes of pixels that are kept in memory; above, files are read again for each batch
GRAY = ("1", "L", "I", "I;16", "F", "LA")
Rows = npt.NDArray[np.float32]


@dataclass(eq=False)
class Pictures:
    """Square images of one size.

    Attributes
    ----------
    names : of the files. size : side in pixels. channels : 1 where all are gray, else 3. paths : where they are, or none if `pixels` has
        them all, as (n, channels, size, size) bytes. notes : what was done to them.
    """

    names: list[str]
    size: int
    channels: int
    paths: list[Path] = field(default_factory=list)
    pixels: Tensor | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, pixels: Any, names: Sequence[str] = ()) -> "Pictures":
        """Of an array (n, channels, size, size) of bytes, or of numbers in [0, 1]."""
        found = torch.as_tensor(pixels)
        if found.ndim != 4 or found.shape[1] not in (1, 3) or found.shape[2] != found.shape[3]:
            raise InputError(f"pixels of shape {tuple(found.shape)}: needs (n, 1 or 3 channels, side, side)")
        if found.is_floating_point():
            found = (found * 255).round().clamp(0, 255).to(torch.uint8)
        return cls(list(names) or [f"{n:06d}.png" for n in range(len(found))], found.shape[2], found.shape[1], pixels=found)

    @classmethod
    def read(cls, folder: str | Path, *, size: int | None = None, color: bool = False) -> "Pictures":
        """Of a folder. `size` : cut the middle square and scale it to this side; without it all must have the same size, and be square.

        `color` : three channels also where all are gray. Raises `InputError`: no images, broken ones, other sizes.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder of images")
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in KINDS and not path.name.startswith("."))
        if not paths:
            raise InputError(f"{folder}: holds no images ({', '.join(kind[1:] for kind in KINDS)})")
        shapes = [_header(path) for path in paths]
        sizes = {shape[:2] for shape in shapes}
        if size is None:
            if len(sizes) > 1:
                named = {shape[:2]: path.name for path, shape in zip(paths, shapes, strict=True)}
                some = ", ".join(f"{named[one]} {one[0]}x{one[1]}" for one in sorted(sizes)[:2])
                raise InputError(f"{folder}: images of several sizes ({some}): cut and scale them, by --image-size")
            [(width, height)] = sizes
            if width != height:
                raise InputError(f"{folder}: images are {width}x{height}, not square: cut and scale them, by --image-size")
        gray = sum(shape[2] in GRAY for shape in shapes)
        channels = 1 if gray == len(paths) and not color else 3
        notes = (f"{gray:,} of {len(paths):,} images are gray; all were read in color",) if gray and channels == 3 else ()
        found = cls([path.name for path in paths], size or shapes[0][0], channels, paths, notes=notes)
        if len(paths) * channels * found.size**2 <= HELD:
            found.pixels = found._from_files(range(len(paths)))
        return found

    def take(self, rows: Any) -> Tensor:
        """(len(rows), channels, size, size) in [-1, 1]."""
        rows = torch.as_tensor(rows)
        pixels = self._from_files(rows.tolist()) if self.pixels is None else self.pixels[rows]
        return pixels.float() / 127.5 - 1

    def part(self, rows: npt.NDArray[np.int64]) -> "Pictures":
        """Some of them, in the order of `rows`."""
        pixels = None if self.pixels is None else self.pixels[torch.as_tensor(rows)]
        return Pictures(
            [self.names[i] for i in rows], self.size, self.channels, [self.paths[i] for i in rows] if self.paths else [], pixels
        )

    def _from_files(self, rows: Sequence[int] | range) -> Tensor:
        return torch.stack([torch.from_numpy(_pixels(self.paths[row], self.size, self.channels)) for row in rows])


def _header(path: Path) -> tuple[int, int, str]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return (*image.size, image.mode)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path}: cannot be read as an image ({type(error).__name__}): remove or replace it, and its embedding") from None


def _pixels(path: Path, size: int, channels: int) -> npt.NDArray[np.uint8]:
    """(channels, size, size): the middle square, scaled."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            image: Any = opened.convert("L" if channels == 1 else "RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path}: cannot be read as an image ({type(error).__name__}): remove or replace it, and its embedding") from None
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    found = np.asarray(image, dtype=np.uint8)
    return (found[None] if channels == 1 else found.transpose(2, 0, 1)).copy()


def read_embeddings(path: str | Path, count: int | None = None) -> Rows:
    """An array of embeddings, each finite, in float32; `count` : how many images there are, one a row.

    Raises `InputError`: no such file, no array, values that are not finite, another number of rows.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file of embeddings (.npy)")
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: no array of numbers that NumPy opens ({error})") from None
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu" or found.ndim < 2 or 0 in found.shape:
        shape = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else "an archive"
        raise InputError(f"{path}: holds {shape}: needs an array of numbers, a row an embedding")
    if count is not None and len(found) != count:
        raise InputError(f"{path}: {len(found):,} embeddings for {count:,} images: needs one a row, in the order of the images' names")
    flat = found.reshape(-1, found.shape[-1])
    bad = np.flatnonzero(~np.isfinite(flat).all(1))
    if len(bad):
        raise InputError(f"{path}: row {bad[0]} holds values that are not finite ({len(bad):,} such rows): embed again, or leave them out")
    return np.ascontiguousarray(found, dtype=np.float32)


def read_labels(path: str | Path, names: Sequence[str]) -> list[str]:
    """The label of each image of `names`, from CSV with a header, the file's name first and its label last.

    Raises `InputError`: no such file, an image without a label.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file of labels (CSV: file, label)")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        next(rows, None)
        found = {row[0]: row[-1] for row in rows if len(row) > 1}
    if lost := [name for name in names if name not in found]:
        raise InputError(f"{path}: {len(lost):,} of {len(names):,} images have no label there, such as {lost[0]}")
    return [found[name] for name in names]
