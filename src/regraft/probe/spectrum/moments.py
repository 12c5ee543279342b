"""Second moments of rows, in float64: all that the measures of rank need, and what adds up over blocks, files and processes.

Enters: blocks of rows (n, K), of any floating type. Leaves: `Moments`: Z'Z, the sum of rows, and how many they are. A Gram matrix in
float32 would not do: its RankMe is 1.8 % too high at rank 10 of 256.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from regraft.errors import InputError, ParameterError

TINY = 1e-12  # added to each entry before a row is brought to length 1, as the reference of self-clustering does


@dataclass(frozen=True)
class Moments:
    """What rows add up to.

    Attributes
    ----------
    gram : Z'Z, (K, K), float64. total : the sum of rows, (K,), float64. rows : their number N. empty : how many of them are all zero.
    """

    gram: torch.Tensor
    total: torch.Tensor
    rows: int
    empty: int = 0

    @property
    def dim(self) -> int:
        return len(self.total)

    @classmethod
    def of(cls, rows: Any) -> "Moments":
        """Of a block (n, K). Raises `ParameterError` for another shape and `InputError` for a row that is not finite."""
        block = as_block(rows)
        return cls(gram_of(block), block.sum(0), len(block), int((block == 0).all(1).sum()))

    def __add__(self, other: "Moments") -> "Moments":
        if other.dim != self.dim:
            raise ParameterError(f"rows of {self.dim} and of {other.dim} columns do not add up: give rows of one space")
        return Moments(self.gram + other.gram, self.total + other.total, self.rows + other.rows, self.empty + other.empty)


def as_block(rows: Any, first: int = 0, name: str = "rows") -> torch.Tensor:
    """Rows (n, K) as float64, checked. `first` is the number of the first row, for the message.

    Raises `ParameterError` where there are not two axes of numbers, and `InputError` that names the first row with NaN or infinity, or
    with numbers whose squares have no place in float64.
    """
    try:
        block = rows.detach() if isinstance(rows, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(rows))
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{name}: not an array of numbers ({' '.join(str(error).split())})") from None
    if block.ndim != 2 or block.shape[1] == 0 or block.is_complex():
        shape = tuple(block.shape)
        raise ParameterError(f"{name}: of shape {shape} and type {block.dtype}: give real numbers of shape (rows, columns)")
    block = block.to(torch.float64)
    if not torch.isfinite(block.sum()):  # one look at the sum costs less than a look at each entry
        broken = (~torch.isfinite(block)).any(1).nonzero().flatten()
        if len(broken):
            raise InputError(f"{name}: row {first + int(broken[0])} has NaN or infinity: mend it, or leave it out")
    if not torch.isfinite(torch.linalg.vector_norm(block) ** 2):
        large = int(block.abs().amax(1).argmax())
        raise InputError(
            f"{name}: row {first + large} holds {float(block[large].abs().max()):.0e}, too large to square: divide the rows by it"
        )
    return block


def gram_of(block: torch.Tensor) -> torch.Tensor:
    """Z'Z (K, K) of a float64 block (n, K). NumPy sees that it is symmetric and does half the work; PyTorch does not."""
    if block.device.type == "cpu":
        rows = block.numpy()
        return torch.from_numpy(rows.T @ rows)
    return block.T @ block


def directions(block: torch.Tensor) -> torch.Tensor:
    r"""Rows :math:`(z + 10^{-12}) / \lVert z + 10^{-12} \rVert`: of length 1; a row of zeros points along (1, ..., 1)."""
    lifted = block + TINY
    lifted /= torch.linalg.vector_norm(lifted, dim=1, keepdim=True)
    return lifted
