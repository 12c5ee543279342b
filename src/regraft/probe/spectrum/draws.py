"""How far a figure may be off: random groups of rows, drawn again.

Enters: figures of draws. Leaves: a 95 % interval. Rows are dealt to B groups at random; a draw takes B groups with replacement and adds up
their moments, so that a draw costs no pass over the rows.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy import stats

LEVEL = 0.95


def multiplicities(groups: int, draws: int, rng: np.random.Generator) -> Iterator[torch.Tensor]:
    """How often each of `groups` is in a draw of as many, with replacement: `draws` vectors (groups,), float64."""
    for _ in range(draws):
        yield torch.from_numpy(np.bincount(rng.integers(0, groups, groups), minlength=groups).astype(np.float64))


def interval_of(value: float, drawn: Sequence[float], groups: int) -> tuple[float, float] | None:
    r"""95 % around `value`: the spread of the draws times Student's t with B - 1 degrees, :math:`\sqrt{B / (B - 1)}` for B groups.

    The draws' own middle is not used: rows that stand twice in a draw add nothing to a rank, so ranks of draws are too low. None where
    nothing was drawn, or the value or a draw is not a number.
    """
    if groups < 2 or len(drawn) < 2 or not all(map(math.isfinite, (value, *drawn))):
        return None
    spread = float(np.std(drawn, ddof=1)) * math.sqrt(groups / (groups - 1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, groups - 1)) * spread
    return value - half, value + half
