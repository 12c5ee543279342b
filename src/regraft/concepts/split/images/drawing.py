"""Images of each class, drawn with diffusers' own pipeline, and a sheet that shows them side by side."""

import base64
import io
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regraft.concepts.split.model import Split
from regraft.errors import ParameterError
from regraft.report import escape

ZOOM = 48  # pixels of the longer side that a small image is shown with


@dataclass(frozen=True)
class Sampling:
    """`each` images a class in `steps` of DDIM, from the noise of `seed` for every class; `guidance` above 1 draws against no class."""

    each: int = 16
    steps: int = 20
    guidance: float = 1.0
    seed: int = 0


def draw(split: Split, how: Sampling, *, classes: Sequence[int] | None = None, tailors: Sequence[int] | None = None) -> Tensor:
    """(classes, each, C, H, W) from -1 to 1, of all classes or of `classes` (ids).

    `tailors` : whose tailors act for each class, where they are not its own; -1: nobody's. Each class is drawn by itself, so that its own
    components alone are multiplied.
    """
    device = split.transformer.device
    pipeline, rows = split.pipeline().to(device), []
    settings = {"guidance_scale": how.guidance, "num_inference_steps": how.steps, "output_type": "pt"}
    classes = range(len(split.names)) if classes is None else classes
    for place, label in enumerate(classes):
        generator = torch.Generator().manual_seed(how.seed)
        with nullcontext() if tailors is None else _lent(split, tailors[place], how):
            images = pipeline([label] * how.each, generator=generator, **settings).images.cpu()
        rows.append(images * 2 - 1)
    return torch.stack(rows)


def _lent(split: Split, label: int, how: Sampling) -> AbstractContextManager[None]:
    """The gate of another class."""
    if split.gate is None or how.guidance > 1:
        raise ParameterError("tailors of another class: only of a gated model, drawn without guidance")
    return split.gate.set(split.gate.partition.onehot(torch.full((how.each,), label, device=split.transformer.device)))


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
