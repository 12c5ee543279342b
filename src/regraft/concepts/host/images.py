"""Pictures of a concept: a folder of images, as one batch of the pipeline's size, with what is said of them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regraft.errors import CorpusError

ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


@dataclass(frozen=True, eq=False)
class Pictures:
    """`images` (n, 3, side, side) in [-1, 1]; `names`; `captions` of those that have a text file of their name; `notes` for the user."""

    images: torch.Tensor
    names: list[str]
    captions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def side_of(pipeline: Any) -> int:
    """Pixels along an image that the pipeline was made for."""
    scale = 2 ** (len(pipeline.vae.config.block_out_channels) - 1)
    return int(pipeline.unet.config.sample_size) * int(scale)


def read_pictures(folder: str | Path, side: int, *, crop: bool = False) -> Pictures:
    """Every image of a folder, resized (with `crop`: its middle square first). Raises `CorpusError`: none there, or one that is broken."""
    from PIL import Image, ImageOps

    place = Path(folder)
    if not place.is_dir():
        raise CorpusError(f"{folder}: no such folder of images")
    files = sorted(path for path in place.iterdir() if path.suffix.lower() in ENDINGS)
    if not files:
        raise CorpusError(f"{folder}: no image ({', '.join(sorted(ENDINGS))}) in that folder")
    images, gray, sizes, captions = [], 0, set(), {}
    for path in files:
        try:
            with Image.open(path) as file:
                opened = ImageOps.exif_transpose(file)
                gray += opened.mode in ("L", "1", "LA", "I;16")
                sizes.add(opened.size)
                opened = opened.convert("RGB")
                opened = ImageOps.fit(opened, (side, side), Image.Resampling.BICUBIC) if crop else opened
                pixels = np.asarray(opened.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)
        except (OSError, SyntaxError, ValueError) as error:
            raise CorpusError(f"{path}: not an image that can be read ({error}): mend it, or take it out of the folder") from None
        images.append(torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1))
        if (told := path.with_suffix(".txt")).is_file():
            captions[path.name] = told.read_text(encoding="utf-8").strip()
    notes = [f"{gray} of {len(files)} images are gray: they are read as three equal colors"] if gray else []
    if len(sizes) > 1 or any(width != height for width, height in sizes):
        how = "cropped to their middle square and resized" if crop else "resized, not cropped (--crop takes their middle square)"
        notes.append(f"images of {len(sizes)} size(s) were {how} to {side} x {side}")
    if len(files) == 1:
        notes.append("one image: what lies behind the concept is learned with it; three to six in different places are better")
    return Pictures(torch.stack(images), [path.name for path in files], captions, notes)


def to_pil(images: torch.Tensor) -> list[Any]:
    """Images (n, 3, h, w) in [-1, 1] as Pillow's."""
    from PIL import Image

    shown = ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(one) for one in shown]
