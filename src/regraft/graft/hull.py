r"""Whether rows lie in the convex hull of a table, for rows that come without weights.

Enters: rows (m, d), a table (n, d). Leaves: which rows are proved outside, and how far at most each is from the hull.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from regraft.graft import iterate_blocks

STEPS = 64
NEAR = 0.01  # of a row's length: nearer is not asked
ROUNDING = 1e-5  # of the longest row and the direction: float32 products differ by less
BLOCK, TABLE_BLOCK = 256, 16384


@dataclass(frozen=True)
class Membership:
    """`outside` (m,): proved to be outside. `distance` (m,): an upper bound, as a share of the row's length."""

    outside: npt.NDArray[np.bool_]
    distance: npt.NDArray[np.float64]

    @property
    def near(self) -> npt.NDArray[np.bool_]:
        """Rows with a mix of old rows within a hundredth of their length."""
        return ~self.outside & (self.distance <= NEAR)


def membership(rows: torch.Tensor, table: torch.Tensor, *, bias: bool = False, steps: int = STEPS) -> Membership:
    r"""Frank-Wolfe from the mean row, on :math:`\min_{p \in \mathrm{hull}} \|x - p\|^2`.

    A step asks which old row is largest in the direction :math:`x - p`. If none reaches *x*, a hyperplane parts *x* from all of them, and
    it is outside: a hidden state in that direction ranks it above every old token. Else *p* moves towards that row. Rows that are neither
    parted nor approached to a hundredth of their length in `steps` steps stay undecided.

    With `bias` the last dimension is the output bias. States cannot turn its sign, and a row below the hull is beaten by what lies above:
    only rows beside or above it are outside. Cost: `steps` products (m, d) x (d, n) at most; most rows need few. Memory: the table, of
    which a block at a time is float32.
    """
    total, longest = torch.zeros(table.shape[1], dtype=torch.float64), 0.0
    for block in iterate_blocks(len(table), TABLE_BLOCK):
        part = table[block].to(torch.float32)
        total += part.sum(dim=0, dtype=torch.float64)
        longest = max(longest, float(torch.linalg.vector_norm(part, dim=1).max()))
    mean = (total / max(1, len(table))).to(torch.float32)
    parts = [_block(rows[where].to(torch.float32), table, mean, longest, steps, bias) for where in iterate_blocks(len(rows), BLOCK)]
    outside = np.concatenate([np.zeros(0, dtype=bool), *(part.outside for part in parts)])
    return Membership(outside, np.concatenate([np.zeros(0), *(part.distance for part in parts)]))


def _block(x: torch.Tensor, table: torch.Tensor, mean: torch.Tensor, longest: float, steps: int, bias: bool) -> Membership:
    point = mean.repeat(len(x), 1)

    def apart(which: torch.Tensor) -> torch.Tensor:
        away = x[which] - point[which]
        if bias:
            away[:, -1].clamp_(min=0)
        return away

    outside = torch.zeros(len(x), dtype=torch.bool)
    length = torch.linalg.vector_norm(x, dim=1).clamp(min=1e-30)
    open_rows = torch.arange(len(x))
    for _ in range(steps):
        away = apart(open_rows)
        size = torch.linalg.vector_norm(away, dim=1)
        undecided = size > NEAR * length[open_rows]
        open_rows, away, size = open_rows[undecided], away[undecided], size[undecided]
        if not len(open_rows):
            break
        reached, vertex = _furthest(away, table)
        parted = (away * x[open_rows]).sum(dim=1) - reached > ROUNDING * size * longest
        outside[open_rows[parted]] = True
        open_rows, away, vertex = open_rows[~parted], away[~parted], vertex[~parted]
        towards = table[vertex].to(torch.float32) - point[open_rows]
        share = (towards * away).sum(dim=1) / towards.square().sum(dim=1).clamp(min=1e-30)
        point[open_rows] += share.clamp(0, 1)[:, None] * towards
    distance = torch.linalg.vector_norm(apart(torch.arange(len(x))), dim=1) / length
    return Membership(outside.numpy(), distance.double().numpy())


def _furthest(directions: torch.Tensor, table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest product of each direction (b, d) with a row of the table (n, d), and that row's number."""
    reached = torch.full((len(directions),), -torch.inf)
    vertex = torch.zeros(len(directions), dtype=torch.int64)
    for block in iterate_blocks(len(table), TABLE_BLOCK):
        value, index = (directions @ table[block].to(torch.float32).T).max(dim=1)
        vertex = torch.where(value > reached, index + block.start, vertex)
        reached = torch.maximum(reached, value)
    return reached, vertex
