r"""Whether rows lie in the convex hull of a table, for rows that come without weights.

Enters: rows (m, d), a table (n, d). Leaves: which rows are proved outside, and how far at most each is from the hull.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from regraft.checkpoint import Checkpoint
from regraft.graft import iterate_blocks
from regraft.vocab.transplant import Transplant

STEPS = 64
NEAR = 0.01  # of a row's length: nearer is not asked
ROUNDING = 1e-5  # of the longest row and the direction: float32 products differ by less
BLOCK = 256
SAMPLED = 512  # rows that are asked about where there are more


@dataclass(frozen=True)
class Membership:
    """`outside` (m,): proved to be outside. `distance` (m,): an upper bound, as a share of the row's length."""

    outside: npt.NDArray[np.bool_]
    distance: npt.NDArray[np.float64]

    @property
    def near(self) -> npt.NDArray[np.bool_]:
        """Rows with a mix of old rows within a hundredth of their length."""
        return ~self.outside & (self.distance <= NEAR)


def share_outside(result: Transplant, checkpoint: Checkpoint, vocab_size: int) -> float | None:
    """Share of the new rows, or of 512 spread among them, that are proved to be outside the hull of the old ones.

    Output biases count where there are any. 0 where weights certify all rows; None where there are no new rows, or where the start also
    changed other layers, cut the tables or made one of them, so that the old rows or hidden states are no longer the old ones.
    """
    if not len(result.new_ids) or result.layers or result.primitives is not None or result.shared:
        return None
    if result.certificate is not None and result.certificate.inside == 1.0:
        return 0.0
    layout = checkpoint.layout
    table = checkpoint.read((layout.head or layout.input)[0])[:vocab_size].to(torch.float32)
    places = np.unique(np.linspace(0, len(result.new_ids) - 1, SAMPLED).astype(np.int64))
    ids = torch.from_numpy(result.new_ids[places])
    rows = (result.input if result.head is None else result.head)[ids].to(torch.float32)
    if result.bias is not None:
        old_bias = checkpoint.read(layout.bias[0]).reshape(-1)[:vocab_size].to(torch.float32)
        table, rows = torch.cat([table, old_bias[:, None]], dim=1), torch.cat([rows, result.bias[ids, None].to(torch.float32)], dim=1)
    return float(membership(rows, table).outside.mean())


def membership(rows: torch.Tensor, table: torch.Tensor, steps: int = STEPS) -> Membership:
    r"""Frank-Wolfe from the mean row, on :math:`\min_{p \in \mathrm{hull}} \|x - p\|^2`.

    A step asks which old row is largest in the direction :math:`x - p`. If none reaches *x*, a hyperplane parts *x* from all of them, and
    it is outside: a hidden state in that direction ranks it above every old token. Else *p* moves towards that row. Rows that are neither
    parted nor approached to a hundredth of their length in `steps` steps stay undecided.

    An output bias belongs to its row as one dimension more. Cost: `steps` products (m, d) x (d, n) at most; most rows need few.
    """
    table = table.to(torch.float32)
    longest = float(torch.linalg.vector_norm(table, dim=1).max())
    parts = [_block(rows[where].to(torch.float32), table, longest, steps) for where in iterate_blocks(len(rows), BLOCK)]
    outside = np.concatenate([np.zeros(0, dtype=bool), *(part.outside for part in parts)])
    return Membership(outside, np.concatenate([np.zeros(0), *(part.distance for part in parts)]))


def _block(x: torch.Tensor, table: torch.Tensor, longest: float, steps: int) -> Membership:
    point = table.double().mean(dim=0).float().repeat(len(x), 1)
    outside = torch.zeros(len(x), dtype=torch.bool)
    length = torch.linalg.vector_norm(x, dim=1).clamp(min=1e-30)
    open_rows = torch.arange(len(x))
    for _ in range(steps):
        away = x[open_rows] - point[open_rows]
        size = torch.linalg.vector_norm(away, dim=1)
        undecided = size > NEAR * length[open_rows]
        open_rows, away, size = open_rows[undecided], away[undecided], size[undecided]
        if not len(open_rows):
            break
        reached, vertex = (away @ table.T).max(dim=1)
        parted = (away * x[open_rows]).sum(dim=1) - reached > ROUNDING * size * longest
        outside[open_rows[parted]] = True
        open_rows, away, vertex = open_rows[~parted], away[~parted], vertex[~parted]
        towards = table[vertex] - point[open_rows]
        share = (towards * away).sum(dim=1) / towards.square().sum(dim=1).clamp(min=1e-30)
        point[open_rows] += share.clamp(0, 1)[:, None] * towards
    distance = torch.linalg.vector_norm(x - point, dim=1) / length
    return Membership(outside.numpy(), distance.double().numpy())
