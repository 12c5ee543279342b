"""How well clicks are told apart: AUC by ranks, and log loss, as means over rows that a bootstrap can draw again.

AUC is no mean over rows, but each row has an influence on it, and those have AUC as their mean: drawing rows again then gives the interval
of AUC to first order, as DeLong's variance does.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from regraft.errors import ParameterError
from regraft.evaluation.paired import DRAWS, LEVEL, Sample

Floats = npt.NDArray[np.float64]
MOST = 20_000  # documents of a sample: of more rows, as many groups are drawn


def auc(scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> float:
    """How often a click scores above what is none, ties counting half: scores and labels (n,), 1 a click.

    Raises `ParameterError` for labels of one class, and for scores that are no numbers.
    """
    clicks, ranks = _ranked(scores, labels)
    most, least = int(clicks.sum()), int((~clicks).sum())
    return float((ranks[clicks].sum() - most * (most + 1) / 2) / (most * least))


def influence(scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> Floats:
    r"""Of each row on AUC (n,): :math:`A + (v_i - A)\,n / n_c`, where v is the share of the other class that row i is on the right side of.

    n_c : rows of its own class. Their mean is AUC. Raises as `auc` does.
    """
    clicks, ranks = _ranked(scores, labels)
    right, whole = np.empty(len(ranks)), auc(scores, labels)
    right[clicks] = (ranks[clicks] - rankdata(scores[clicks])) / (~clicks).sum()
    right[~clicks] = 1 - (ranks[~clicks] - rankdata(scores[~clicks])) / clicks.sum()
    return np.asarray(whole + (right - whole) * len(clicks) / np.where(clicks, clicks.sum(), (~clicks).sum()))


def log_loss(scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> Floats:
    """Of each row (n,) in nats, by its logit."""
    signed = np.where(np.asarray(labels) == 1, -1.0, 1.0) * np.asarray(scores, dtype=np.float64)
    return np.asarray(np.logaddexp(0, signed))


def sample_of(rows: Sequence[Floats]) -> Sample:
    """Values of rows (n,), one array a seed, as a sample; more than `MOST` rows in as many groups of neighbours in turn."""
    stacked = np.stack(rows)
    sizes = np.ones_like(stacked)
    if stacked.shape[1] > MOST:
        group = np.arange(stacked.shape[1]) % MOST
        stacked = np.stack([np.bincount(group, weights=one) for one in stacked])
        sizes = np.broadcast_to(np.bincount(group).astype(np.float64), stacked.shape)
    return Sample(np.round(stacked, 7), sizes)


def interval(sample: Sample, seed: int = 0) -> tuple[float, float]:
    """95 % of the sample's value, rows and seeds drawn again."""
    generator = np.random.default_rng(seed)
    drawn = [
        sample.resample(generator.integers(sample.documents, size=sample.documents), generator.integers(sample.seeds, size=sample.seeds))
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _ranked(scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.bool_], Floats]:
    clicks = np.asarray(labels) == 1
    if not np.isfinite(scores).all():
        raise ParameterError("scores hold NaN or infinity: training has gone astray; lower the learning rate")
    if clicks.all() or not clicks.any():
        raise ParameterError("all labels are of one class: AUC needs both")
    return clicks, np.asarray(rankdata(scores), dtype=np.float64)
