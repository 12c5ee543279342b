"""Step D: how many candidate pieces to keep, by the essential bit content of their distribution (MacKay, 2003, chapter 4)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

STEP = 1e-6
STEPS = 10


@dataclass(frozen=True)
class DeltaPoint:
    """One delta with the pieces above it: `size` is |S_delta|, `entropy` is H_delta in nats."""

    k: int
    delta: float
    size: int
    entropy: float


def delta_curve(frequencies: Mapping[str, int]) -> list[DeltaPoint]:
    r"""The curve over :math:`\delta_k = \min_i p_i + k \cdot 10^{-6}`, k = 1..10, with :math:`p_i = f_i / \sum f`.

    :math:`S_\delta = \{i : p_i > \delta\}` and :math:`H_\delta = -\sum_{S_\delta} p \ln p`. Empty for no candidates.
    """
    counts = np.array(list(frequencies.values()), dtype=np.float64)
    if not len(counts) or counts.sum() <= 0:
        return []
    shares = counts / counts.sum()
    points = []
    for k in range(1, STEPS + 1):
        delta = float(shares.min()) + k * STEP
        inside = shares[shares > delta]
        points.append(DeltaPoint(k, delta, len(inside), float(-(inside * np.log(inside)).sum())))
    return points
