"""More parallel anchors from a few (Cannistraci et al. 2023, "Bootstrapping Parallel Anchors for Relative Representations").

Enters: candidate rows of two spaces whose partners are not known, but for about 15 pairs. Leaves: pairs. In rounds, both sides are
described relative to the pairs found so far, and matched by an optimal transport plan whose two marginals are checked.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from regraft.align.aligner import unit_rows
from regraft.align.aligners.relative_representations.coordinates import Coordinates, Recipe
from regraft.errors import RowsError
from regraft.progress import progress_bar

Rows = npt.NDArray[np.floating[Any]]
SCALINGS = 50  # turns between two in the logarithm
FARTHEST = 1e100
MOST = 4_000  # candidates a side: the plan is candidates x candidates


@dataclass(frozen=True)
class Grown:
    """Pairs (k, 2) of positions, the seeds first; `mass` (k,) is the share of its row that a pair has in the plan."""

    pairs: npt.NDArray[np.int64]
    mass: npt.NDArray[np.float64]


def sinkhorn(cost: Rows, reg: float, *, tolerance: float = 1e-6, iterations: int = 5_000) -> Rows:
    """The plan (n, m) between uniform marginals of least cost and entropy `reg`, in float64.

    Potentials move in the logarithm; between two such turns the plan is scaled by vectors, which is a tenth of the work. It is stopped when
    both marginals are met to `tolerance` of their size. Raises `ParameterError` where they are not after `iterations`: a plan of wrong mass
    looks like any other.
    """
    n, m = cost.shape
    kernel = -np.asarray(cost, dtype=np.float64) / reg
    g = np.zeros(m)
    off, left = np.inf, iterations
    while left > 0:
        f = -np.log(n) - logsumexp(kernel + g, axis=1)
        g = -np.log(m) - logsumexp(kernel + f[:, None], axis=0)
        plan = np.exp(kernel + f[:, None] + g)
        off = max(abs(plan.sum(1) * n - 1).max(), abs(plan.sum(0) * m - 1).max())
        if off <= tolerance:
            return np.asarray(plan)
        v = _scaled(plan, min(SCALINGS, left))
        g += np.log(v)
        left -= 1 + SCALINGS
    raise RowsError(f"sinkhorn: marginals are off by {off:.1e} after {iterations} turns at reg={reg:g}: use a larger reg or tolerance")


def _scaled(plan: Rows, turns: int) -> Rows:
    """What the columns of `plan` are to be multiplied by after so many turns, or fewer where the numbers grow too far."""
    n, m = plan.shape
    v = np.ones(m)
    for _ in range(turns):
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            u = 1 / (n * (plan @ v))
            found = 1 / (m * (plan.T @ u))
        if not (np.isfinite(u).all() and (found > 1 / FARTHEST).all() and (found < FARTHEST).all()):
            break
        v = found
    return v


def grow_anchors(
    X: Rows,
    Y: Rows,
    seeds: npt.ArrayLike,
    *,
    anchors: int = 300,
    rounds: int = 6,
    reg: float = 0.02,
    tolerance: float = 1e-3,
    recipe: Recipe | None = None,
) -> Grown:
    """Pairs of rows of X (n, d) and Y (m, e), from `seeds` (s, 2).

    A round takes pairs that are each other's best in the plan, surest first, so many more that the last round ends at `anchors`; pairs of
    earlier rounds, but for the seeds, are judged anew.

    Parameters
    ----------
    reg : entropy of the plan, in units of 1 - cosine of relative coordinates. `tolerance` : by how much its marginals may be off.
    recipe : how rows are described; default cosines to anchors that are centered.

    Raises `ParameterError`: seeds out of range or twice, more than 4,000 candidates a side, a plan whose marginals are not met.
    """
    recipe = recipe or Recipe(steps="center")
    first = np.asarray(seeds, dtype=np.int64).reshape(-1, 2)
    if max(len(X), len(Y)) > MOST:
        raise RowsError(f"{len(X)} and {len(Y)} candidates: at most {MOST} a side are matched: draw some of them")
    if len(first) < 2 or (first < 0).any() or (first >= (len(X), len(Y))).any() or any(len(set(c)) < len(c) for c in first.T.tolist()):
        raise RowsError(f"{len(first)} seed pairs: give at least 2, each row once, within {len(X)} and {len(Y)} candidates")
    most = min(anchors, len(X), len(Y))
    found, mass = first, np.ones(len(first))
    with progress_bar("growing anchors", rounds, "rounds") as bar:
        for turn in range(1, rounds + 1):
            left, right = (Coordinates(side[found[:, i]], recipe).relative(side) for i, side in enumerate((X, Y)))
            plan = sinkhorn(1 - unit_rows(left) @ unit_rows(right).T, reg, tolerance=tolerance)
            wanted = round(len(first) + (most - len(first)) * turn / rounds)
            found, mass = _surest(plan, first, wanted)
            bar.advance()
    return Grown(found, mass)


def _surest(plan: Rows, seeds: npt.NDArray[np.int64], wanted: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Seeds, then mutual best pairs of the others by their share of the row's mass; ties by position."""
    share = plan * len(plan)
    free = share.copy()
    free[seeds[:, 0], :] = free[:, seeds[:, 1]] = -1
    best, back = free.argmax(1), free.argmax(0)
    rows = np.flatnonzero((back[best] == np.arange(len(plan))) & (free.max(1) > 0))
    value = share[rows, best[rows]]
    kept = np.lexsort((rows, -value))[: max(0, wanted - len(seeds))]
    pairs = np.concatenate([seeds, np.stack([rows[kept], best[rows[kept]]], axis=1)])
    return pairs, np.concatenate([np.ones(len(seeds)), value[kept]])
