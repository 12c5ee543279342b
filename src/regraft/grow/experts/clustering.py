"""Clusters of equal size: which neurons of a feed-forward block make an expert.

Enters: keys (neurons, d). Leaves: a label a neuron, each label exactly neurons / experts times. k-means on keys at unit length, in which
the assignment is a transport problem, solved by an auction whose memory is neurons x experts: the exact Hungarian method takes neurons x
neurons.
"""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pooch

from regraft.output import atomic_file
from regraft.progress import progress_bar

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

SLACK = 1e-4  # of a similarity, a neuron: how far the auction may stay from the best assignment (none, mostly)
VERSION = 1  # of this procedure: labels kept by another one are not taken


def balanced_clusters(keys: Floats, experts: int, *, seed: int = 0, max_iter: int = 1000, unit: bool = True) -> Labels:
    """Labels (neurons,) of balanced k-means with k-means++ starts; `experts` must divide the number of keys.

    Ends when no label changes, or what is won falls by less than a hundred-thousandth, or after `max_iter` rounds. Keys of length zero are
    no closer to one cluster than to another. `unit`: bring keys to unit length first.
    """
    points = unit_rows(keys) if unit else np.asarray(keys, dtype=np.float32)
    if experts in (1, len(points)):
        return np.arange(len(points)) % experts
    centers = _spread(points, experts, np.random.default_rng(seed))
    labels, before = np.full(len(points), -1), -np.inf
    with progress_bar("clustering neurons", unit="rounds") as bar:
        for _ in range(max_iter):
            similar = points @ centers.T - 0.5 * (centers**2).sum(1)  # nearest center: |u - c|^2 without what all share
            new = assign(similar)
            gained = float(similar[np.arange(len(points)), new].sum())
            if (new == labels).all() or gained - before < 1e-5 * abs(gained):
                return new
            labels, before = new, gained
            centers = np.stack([points[labels == one].mean(0) for one in range(experts)])
            bar.advance()
    return labels


def unit_rows(keys: Floats) -> Floats:
    """Rows at unit length; rows of zeros stay."""
    keys = np.asarray(keys, dtype=np.float32)
    return np.asarray(keys / np.maximum(np.linalg.norm(keys, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def inertia(keys: Floats, labels: Labels) -> float:
    """Sum of squared distances of unit keys to the mean of their cluster: what k-means makes small."""
    unit = unit_rows(keys)
    means = np.stack([unit[labels == one].mean(0) for one in range(labels.max() + 1)])
    return float(((unit - means[labels]) ** 2).sum())


def assign(similar: Floats, slack: float = SLACK) -> Labels:
    """The assignment (neurons,) of neurons to clusters of equal size that makes the sum of `similar` (neurons, clusters) large.

    An auction: neurons bid for places, all at once, and a full cluster keeps the highest bids at the price of the lowest. The sum is within
    neurons * `slack` of the best one. The step of bids falls by four from round to round, prices kept, so that the last one is short.
    """
    room = len(similar) // similar.shape[1]
    prices = np.zeros(similar.shape[1])
    step = max(slack, float(np.ptp(similar)) / 8)
    while True:
        labels, prices = _auction_round(np.asarray(similar, dtype=np.float64), prices, room, step)
        if step <= slack:
            return labels
        step = max(slack, step / 4)


def _auction_round(
    similar: npt.NDArray[np.float64], prices: npt.NDArray[np.float64], room: int, step: float
) -> tuple[Labels, npt.NDArray[np.float64]]:
    """One auction at a fixed `step`, from the `prices` of the one before."""
    labels, paid = np.full(len(similar), -1), np.zeros(len(similar))
    prices = prices.copy()
    while len(waiting := np.flatnonzero(labels < 0)):
        worth = similar[waiting] - prices
        best = worth.argmax(1)
        first = worth[np.arange(len(waiting)), best]
        worth[np.arange(len(waiting)), best] = -np.inf
        paid[waiting] = prices[best] + first - worth.max(1) + step
        labels[waiting] = best
        for cluster in np.unique(best):
            inside = np.flatnonzero(labels == cluster)
            if len(inside) >= room:
                kept = inside[np.argsort(-paid[inside], kind="stable")]
                labels[kept[room:]] = -1
                prices[cluster] = max(prices[cluster], paid[kept[room - 1]])
    return labels, prices


def _spread(unit: Floats, count: int, draw: np.random.Generator) -> Floats:
    """First centers, each drawn by its squared distance from those before (k-means++)."""
    chosen = [int(draw.integers(len(unit)))]
    apart = ((unit - unit[chosen[0]]) ** 2).sum(1)
    for _ in range(count - 1):
        total = apart.sum()
        chosen.append(int(draw.choice(len(unit), p=apart / total)) if total > 0 else int(draw.integers(len(unit))))
        apart = np.minimum(apart, ((unit - unit[chosen[-1]]) ** 2).sum(1))
    return unit[chosen]


def kept_clusters(
    keys: Floats, experts: int, *, seed: int = 0, max_iter: int = 1000, unit: bool = True, folder: Path | None = None
) -> Labels:
    """`balanced_clusters`, kept on disk under a hash of the keys themselves and all settings; labels of other weights are never taken."""
    keys = np.ascontiguousarray(keys, dtype=np.float32)
    digest = hashlib.sha256(f"{VERSION} {keys.shape} {experts} {seed} {max_iter} {unit} {SLACK}".encode() + keys.tobytes()).hexdigest()
    path = (folder or Path(pooch.os_cache("regraft")) / "experts") / f"{digest}.npy"
    if path.is_file():
        try:
            found = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError):
            found = np.empty(0)
        if found.shape == (len(keys),) and (np.bincount(found.astype(np.int64), minlength=experts) == len(keys) // experts).all():
            return np.asarray(found, dtype=np.int64)
    labels = balanced_clusters(keys, experts, seed=seed, max_iter=max_iter, unit=unit)
    try:
        with atomic_file(path) as partial, partial.open("wb") as file:
            np.save(file, labels, allow_pickle=False)
    except OSError:
        pass  # a cache that cannot be written is none
    return labels
