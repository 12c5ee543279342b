"""Images of each class, drawn with diffusers' own pipeline, and a sheet that shows them side by side."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.concepts.split.model import Split
from regraft.report import escape

ZOOM = 48  # pixels of the longer side that a small image is shown with


def draw(split: Split, each: int, *, classes: Sequence[int] | None = None, steps: int = 20, guidance: float = 1.0, seed: int = 0) -> Tensor:
    """(classes, each, C, H, W) from -1 to 1, of all classes or of `classes` (ids). The same seed begins with the same noise a class.

    Each class is drawn by itself: its own components alone are multiplied.
    """
    pipeline, rows = split.pipeline(), []
    for label in range(len(split.names)) if classes is None else classes:
        generator = torch.Generator().manual_seed(seed)
        found = pipeline([label] * each, guidance_scale=guidance, generator=generator, num_inference_steps=steps, output_type="pt").images
        rows.append(found * 2 - 1)
    return torch.stack(rows)


def sheet(rows: dict[str, Tensor], columns: Sequence[str] = ()) -> str:
    """HTML of rows of images (n, C, H, W) by name, in one table; `columns` are the headings over groups of equally many images."""
    head = "".join(f"<th>{escape(one)}</th>" for one in ("", *columns)) if columns else ""
    lines = [f"<tr>{head}</tr>"] if head else []
    for name, images in rows.items():
        groups = images.chunk(len(columns)) if columns else (images,)
        cells = "".join(f"<td><img alt='{escape(name)}' src='data:image/png;base64,{_png(group)}'></td>" for group in groups)
        lines.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return f"<table class='sheet'>{''.join(lines)}</table>"


def picture(images: Tensor) -> Any:
    """A Pillow image of images (n, C, H, W) side by side, enlarged where they are small."""
    from PIL import Image

    values = ((images[:, :3].clamp(-1, 1) + 1) * 127.5).round().byte().numpy()
    values = np.pad(values, ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=255)
    joined = np.concatenate(list(values), axis=2)
    image = Image.fromarray(joined[0] if joined.shape[0] < 3 else joined.transpose(1, 2, 0))
    scale = max(1, ZOOM // images.shape[-2])
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def _png(images: Tensor) -> str:
    buffer = io.BytesIO()
    picture(images).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
