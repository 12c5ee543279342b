"""Self-learning (Artetxe et al. ACL 2018, section 3): a map gives pairs and the pairs a map, with chance that fades away.

Enters: both tables after their steps, and pairs to begin with, or none. Leaves: the pairs in the end.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from regraft.align.aligner import Floats
from regraft.align.linear import Ids, mean_of, stepped
from regraft.align.nearest import Retrieval, unit_float32
from regraft.progress import progress_bar
from regraft.vectors.alignment import orthogonal_procrustes

BEYOND = 0.02  # share of words whose drawn rank may lie beyond the neighbours that are looked up for all


@dataclass(frozen=True)
class Schedule:
    """How long it goes on and how chance fades; see `VecMap`."""

    csls: int
    stochastic_initial: float
    stochastic_multiplier: float
    stochastic_interval: int
    threshold: float
    max_iterations: int


def self_learn(left: Floats, right: Floats, pairs: Ids, schedule: Schedule, seed: int) -> tuple[Ids, list[float]]:
    """Pairs (k, 2) when the objective no longer rises, and the objective of each iteration: mean best score of both directions."""
    generator, keep = np.random.default_rng(seed), schedule.stochastic_initial
    best, improved, history = -math.inf, 0, []
    x, z = left.astype(np.float64), right.astype(np.float64)
    with progress_bar("self-learning", unit="iterations") as bar:
        for iteration in range(schedule.max_iterations):
            rotation = orthogonal_procrustes(x[pairs[:, 0]], z[pairs[:, 1]])
            pairs, objective = induce(Retrieval(unit_float32(x @ rotation), unit_float32(z), schedule.csls), keep, generator)
            history.append(objective)
            bar.say(f"objective {objective:.4f}, keep {keep:g}")
            bar.advance()
            if objective - best >= schedule.threshold:
                best, improved = objective, iteration
            elif iteration - improved >= schedule.stochastic_interval or keep >= 1:
                if keep >= 1:
                    break
                keep, improved = min(1.0, keep * schedule.stochastic_multiplier), iteration
    return pairs, history


def induce(space: Retrieval, keep: float, generator: np.random.Generator) -> tuple[Ids, float]:
    """For each word of either side its best partner by CSLS of those that chance leaves it, both directions together; and the objective.

    Each score is left in place with probability `keep`, so the best that is left has a rank that is geometric: it is drawn, and no mask is
    made.
    """
    n, m = len(space.left), len(space.right)
    looked_up = 1 if keep >= 1 else min(max(n, m), math.ceil(math.log(BEYOND) / math.log(1 - keep)))
    forth, back = space.best_both(looked_up)
    objective = 0.0
    found = []
    for side, neighbours, count in ((0, forth, m), (1, back, n)):
        asking = np.flatnonzero(neighbours.ids[:, 0] >= 0)
        # VecMap's score takes off the other side's term alone
        objective += float((neighbours.scores[asking, 0] + space.hubs[side][asking]).mean()) / 4
        ranks = np.minimum(generator.geometric(keep, len(asking)) - 1, count - 1)
        chosen = neighbours.ids[asking, np.minimum(ranks, neighbours.ids.shape[1] - 1)]
        deep = np.flatnonzero(ranks >= neighbours.ids.shape[1])
        if len(deep):
            chosen[deep] = _at_rank(space, side, asking[deep], ranks[deep])
        found.append(np.column_stack([asking, chosen][:: 1 if side == 0 else -1]))
    return np.concatenate(found), objective


def _at_rank(space: Retrieval, side: int, rows: Ids, ranks: Ids) -> Ids:
    """The neighbour of each of `rows` at its own rank, 0 the best."""
    found = (space.search, space.search_back)[side](rows, int(ranks.max()) + 1)
    return np.asarray(found.ids[np.arange(len(rows)), np.minimum(ranks, found.ids.shape[1] - 1)])


def spectral_start(left: Floats, right: Floats, k: int) -> Ids:
    r"""Pairs of words whose sorted rows of :math:`(X X^\top)^{1/2}` are alike, both directions together; `left` (n, d), `right` (n, e)."""
    count = min(len(left), len(right))
    profiles = [_profile(table[:count].astype(np.float64)) for table in (left, right)]
    return induce(Retrieval(profiles[0], profiles[1], k), 1.0, np.random.default_rng(0))[0]


def _profile(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    u, s, _ = np.linalg.svd(rows, full_matrices=False)
    similar = np.sort((u * s) @ u.T, axis=1)
    return unit_float32(stepped(similar, "unit-center-unit", mean_of(similar, "unit-center-unit")))
