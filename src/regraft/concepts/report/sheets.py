"""Contact sheets: small images in rows with their prompts, inside the page."""

import base64
import io
from collections.abc import Mapping, Sequence

import torch

from regraft.concepts.host.images import to_pil
from regraft.report import escape

SHOWN = 160  # pixels along an image on the page


def sheet(rows: Mapping[str, torch.Tensor], prompts: Sequence[str]) -> str:
    """A table as HTML: a row a name with its images (n, 3, h, w) in [-1, 1], a column a prompt."""
    head = "".join(f'<th style="font-weight:normal;max-width:{SHOWN}px">{escape(prompt)}</th>' for prompt in prompts)
    body = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th>{"".join(f"<td>{_picture(one)}</td>" for one in images)}</tr>'
        for name, images in rows.items()
    )
    return f'<div style="overflow-x:auto"><table><tr><th></th>{head}</tr>{body}</table></div>'


def strip(images: torch.Tensor) -> str:
    """Images in one line."""
    return f'<div style="display:flex;flex-wrap:wrap;gap:6px">{"".join(_picture(one) for one in images)}</div>'


def _picture(image: torch.Tensor) -> str:
    shown = to_pil(image[None])[0]
    if max(shown.size) > 2 * SHOWN:
        shown.thumbnail((2 * SHOWN, 2 * SHOWN))
    file = io.BytesIO()
    shown.save(file, "PNG")
    side = min(SHOWN, max(shown.size[0], 96))
    style = f"width:{side}px;image-rendering:{'pixelated' if shown.size[0] < side else 'auto'}"
    return f'<img alt="" style="{style}" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'
