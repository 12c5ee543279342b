"""What vectors are measured by: coefficient of variation, cosines, ranks, purity, neighbours, dependencies between columns.

Enters and leaves: arrays of numpy; rows are vectors. NaN rows are for callers to leave out.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import mannwhitneyu, rankdata, spearmanr

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Interval = tuple[float, float] | None
LEVEL = 0.95
BLOCK = 512  # queries whose cosines to all are held at once


def mcv(population: npt.NDArray[np.floating]) -> Floats:
    r"""Albert and Zhang's coefficient of variation of vectors: (..., p, d) to (...,). Dimensionless, 0 for equal vectors.

    :math:`\gamma = \sqrt{\mu^\top \Sigma \mu / (\mu^\top \mu)^2}` with the unbiased covariance: the deviation of the projections
    :math:`e_i^\top \mu` by :math:`\mu^\top \mu`, so nothing d x d is made. NaN for one vector, or a mean of zero.
    """
    rows = np.asarray(population, dtype=np.float64)
    if rows.shape[-2] < 2:
        return np.full(rows.shape[:-2], np.nan)
    mean = rows.mean(-2, keepdims=True)
    projections = np.einsum("...pd,...qd->...p", rows - mean, mean)  # centred first: equal rows give exactly 0
    square = np.square(mean).sum((-2, -1))
    equal = (rows == rows[..., :1, :]).all((-2, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = projections.std(-1, ddof=1) / square
    return np.where(square == 0, np.nan, np.where(equal, 0.0, found))


def cosines(X: npt.NDArray[np.floating], Y: npt.NDArray[np.floating]) -> Floats:
    """Cosine of each row of X (..., d) with that of Y, at most 1; exactly 1 for equal rows, NaN beside a zero row."""
    x, y = np.asarray(X, dtype=np.float64), np.asarray(Y, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (x * y).sum(-1) / np.sqrt(np.square(x).sum(-1) * np.square(y).sum(-1))
    same = (x == y).all(-1) & (np.square(x).sum(-1) > 0)
    return np.where(same, 1.0, np.clip(found, -1.0, 1.0))


def spearman(x: Floats, y: Floats) -> float:
    """Spearman's correlation with ties, of pairs where both are numbers; NaN for fewer than 3, or where one side is constant."""
    both = np.isfinite(x) & np.isfinite(y)
    if both.sum() < 3 or np.ptp(x[both]) == 0 or np.ptp(y[both]) == 0:
        return float("nan")
    return float(spearmanr(x[both], y[both]).statistic)


def rank_test(lower: Floats, higher: Floats) -> tuple[float, float]:
    """The chance that one of `higher` is above one of `lower` (ties count half), and Mann and Whitney's p that it is more than a half."""
    if not len(lower) or not len(higher):
        return float("nan"), float("nan")
    found = mannwhitneyu(higher, lower, alternative="greater")
    return float(found.statistic / (len(lower) * len(higher))), float(found.pvalue)


def purity(clusters: Sequence[Hashable], labels: Sequence[Hashable]) -> float:
    """Share of items that bear the most frequent label of their cluster."""
    by_cluster: dict[Hashable, Counter[Hashable]] = {}
    for cluster, label in zip(clusters, labels, strict=True):
        by_cluster.setdefault(cluster, Counter())[label] += 1
    return sum(max(counts.values()) for counts in by_cluster.values()) / len(labels) if len(labels) else float("nan")


def neighbours(rows: npt.NDArray[np.floating], queries: Ints, k: int, *, own: bool = False) -> Ints:
    """The `k` rows with the highest cosine to each query, best first; the query itself is none of them unless `own`."""
    units = np.asarray(rows, dtype=np.float64)
    units = units / np.maximum(np.linalg.norm(units, axis=1, keepdims=True), 1e-30)
    found = np.empty((len(queries), k), dtype=np.int64)
    for start in range(0, len(queries), BLOCK):
        block = queries[start : start + BLOCK]
        scores = units[block] @ units.T
        if not own:
            scores[np.arange(len(block)), block] = -np.inf
        found[start : start + BLOCK] = np.argsort(-scores.round(9), axis=1, kind="stable")[:, :k]  # rounding must not settle ties
    return found


def overlap(A: Ints, B: Ints) -> Floats:
    """Share of each row of neighbours A (q, k) that is in the same row of B."""
    return np.asarray((A[:, :, None] == B[:, None, :]).any(2).mean(1), dtype=np.float64)


def id_overlap(A: Sequence[Sequence[Hashable]], B: Sequence[Sequence[Hashable]]) -> Floats:
    """Twice the multiset Jaccard of the ids of two lists of neighbours, query by query: 1 for the same ids as often."""
    return np.array([2 * multiset_jaccard(a, b) for a, b in zip(A, B, strict=True)])


def containment(a: Sequence[str], b: Sequence[str]) -> float:
    """Share of the values of `a` that `b` has, as sets."""
    left, right = set(a), set(b)
    return len(left & right) / len(left) if left else float("nan")


def jaccard(a: Sequence[str], b: Sequence[str]) -> float:
    """Shared values by all values, as sets."""
    left, right = set(a), set(b)
    return len(left & right) / len(left | right) if left or right else float("nan")


def multiset_jaccard(a: Sequence[Hashable], b: Sequence[Hashable]) -> float:
    """Sum of minima by sum of all counts: from 0 to a half."""
    left, right = Counter(a), Counter(b)
    total = sum(left.values()) + sum(right.values())
    return sum((left & right).values()) / total if total else float("nan")


def codes_of(column: Sequence[str]) -> Ints:
    """A number a value, -1 where the cell is empty."""
    values = np.asarray(column, dtype=object)
    numbers = np.unique(values.astype(str), return_inverse=True)[1].astype(np.int64)
    return np.where(values == "", -1, numbers)


def determines(x: Ints, y: Ints) -> bool:
    """Whether equal x always means equal y, over rows where neither is empty."""
    both = (x >= 0) & (y >= 0)
    pairs = x[both] * (y.max(initial=0) + 1) + y[both]
    return len(np.unique(pairs)) == len(np.unique(x[both]))


def unary_dependencies(columns: Sequence[Sequence[str]]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Ordered pairs (X, Y) of columns with X -> Y, and pairs of the same determinants without. Exact: every pair is looked at.

    A determinant has a value that occurs twice (no key) and more than one value; Y has more than one value. Empty cells say nothing.
    """
    codes = [codes_of(column) for column in columns]
    counts = [np.unique(code[code >= 0], return_counts=True)[1] for code in codes]
    varied = [len(count) > 1 for count in counts]
    holds, fails = [], []
    for x, code in enumerate(codes):
        if not varied[x] or counts[x].max() < 2:
            continue
        there = [y for y in range(len(codes)) if y != x and varied[y]]
        yes = [y for y in there if determines(code, codes[y])]
        if yes:
            holds += [(x, y) for y in yes]
            fails += [(x, y) for y in there if y not in yes]
    return holds, fails


def bootstrap(
    count: int, figure: Callable[[Ints], float], groups: Sequence[Hashable] | None = None, *, draws: int = 500, seed: int = 0
) -> Interval:
    """95 % interval of `figure(items)` by drawing items again, or whole groups of them; None for fewer than 2 or no draws."""
    members = [np.array([i]) for i in range(count)] if groups is None else members_of(groups)
    if len(members) < 2 or not draws:
        return None
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(members), size=(draws, len(members)))
    return _middle(np.array([figure(np.concatenate([members[g] for g in one])) for one in drawn]))


def bootstrap_mean(values: Floats, groups: Sequence[Hashable] | None = None, *, draws: int = 500, seed: int = 0) -> Interval:
    """As `bootstrap`, of the mean of `values`, all draws at once."""
    members = [np.array([i]) for i in range(len(values))] if groups is None else members_of(groups)
    if len(members) < 2 or not draws:
        return None
    sums, sizes = np.array([values[m].sum() for m in members]), np.array([len(m) for m in members])
    drawn = np.random.default_rng(seed).integers(len(members), size=(draws, len(members)))
    return _middle(sums[drawn].sum(1) / sizes[drawn].sum(1))


def bootstrap_spearman(x: Floats, y: Floats, *, draws: int = 500, seed: int = 0) -> Interval:
    """As `bootstrap`, of `spearman`, all draws at once: pairs are drawn and ranked again."""
    both = np.isfinite(x) & np.isfinite(y)
    if both.sum() < 3 or not draws:
        return None
    drawn = np.random.default_rng(seed).integers(both.sum(), size=(draws, int(both.sum())))
    ranks = [rankdata(side[both][drawn], axis=1) for side in (x, y)]
    one, other = (r - r.mean(1, keepdims=True) for r in ranks)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _middle((one * other).sum(1) / np.sqrt(np.square(one).sum(1) * np.square(other).sum(1)))


def members_of(groups: Sequence[Hashable]) -> list[Ints]:
    """Numbers of the items of each group."""
    found: dict[Hashable, list[int]] = {}
    for number, group in enumerate(groups):
        found.setdefault(group, []).append(number)
    return [np.array(numbers, dtype=np.int64) for numbers in found.values()]


def _middle(found: Floats) -> Interval:
    """The middle 95 % of draws; None where fewer than half of them are numbers."""
    values = found[np.isfinite(found)]
    if len(values) < len(found) / 2:
        return None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return float(low), float(high)
