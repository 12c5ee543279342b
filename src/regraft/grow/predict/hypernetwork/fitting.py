"""From decoded entries to parameters: what is asked of the decoder, what is cut or repeated, the parameter's own shape (section 2.5)."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from regraft.grow.predict.graph import Shape, Shapes, Slot, as_4d, grid_side

Outcome = Literal["predicted", "sliced", "tiled"]
CLASS_TOKEN = 0.02  # standard deviation of a class token's row


@dataclass(frozen=True)
class Asked:
    """What a slot asks of the decoder: (out, in, height, width); a `pair` is (2c, 1, 1, 1) and holds scale and bias."""

    shape: tuple[int, int, int, int]
    pair: bool


def asked(slot: Slot, shapes: Shapes) -> Asked:
    out, into, height, width = as_4d(slot, shapes)
    pair = slot.role in ("scale", "bias")
    return Asked((2 * out if pair else out, into, height, width), pair)


def rounded(size: int, most: int) -> int:
    """The size that is decoded for `size`, so that tensors of near sizes share one product; what is larger than `most` stays."""
    if size >= most:
        return size
    size = 4 * size // 3 if size % 3 == 0 else size
    return most if size >= most / 2 else size


def repeated(entries: torch.Tensor, out: int, into: int) -> torch.Tensor:
    """(n, a, b, height, width) repeated, not interpolated, to (n, out, into, height, width)."""
    _, a, b, _, _ = entries.shape
    if a < out or b < into:
        entries = entries.repeat(1, -(-out // a), -(-into // b), 1, 1)
    return entries[:, :out, :into]


def token_rows(name: str, rows: int, width: int) -> torch.Tensor:
    """(rows, width) of class tokens from N(0, 0.02^2): the same for every model, and a narrow one's are the first entries of a wide one's.

    A norm makes such a row as large as a signal: drawn anew in each step of meta-training it is noise that the first layer cannot mute.
    """
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return torch.from_numpy(CLASS_TOKEN * np.random.default_rng(seed).standard_normal((width, rows)).T).float()


def as_parameter(entries: torch.Tensor, slot: Slot, shape: Shape) -> torch.Tensor:
    """Entries (out, in, height, width) in the shape, orientation and meaning that the model keeps its parameter in.

    A grid is the last rows of its table; rows before it, which belong to class tokens, are `token_rows`.
    """
    if slot.role == "grid":
        side, width = grid_side(shape), shape[-1]
        rows = entries[0].permute(1, 2, 0).reshape(side * side, width)
        return torch.cat([token_rows(slot.name, shape[-2] - side * side, width).to(rows), rows]).view(shape)
    if slot.rows is not None:
        shape = (slot.rows[1] - slot.rows[0], *shape[1:])
    if slot.transposed:
        entries = entries.transpose(0, 1)
    return entries.reshape(shape) - slot.offset
