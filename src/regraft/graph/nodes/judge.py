"""What vectors of nodes say of labels: logistic regression on some nodes, judged on the others.

Enters: vectors, a class a node. Leaves: accuracy on test nodes (micro F1, where each node has one class) over random splits.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from regraft.errors import InputError
from regraft.evaluation.paired import Sample

SPLITS, SHARE = 10, 0.2  # trained on; a tenth beside it is left out, as methods that tune on it would have it


def judge(vectors: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], *, splits: int = SPLITS, share: float = SHARE) -> Sample:
    """Which of the test nodes are named rightly, a row a split; the splits are the same for any `vectors` (n, d). Labels below 0: unknown.

    Raises `InputError`: too few labelled nodes.
    """
    from sklearn.linear_model import LogisticRegression

    known = np.flatnonzero(labels >= 0)
    learned, tested = int(share * len(known)), int((share + 0.1) * len(known))
    if learned < 2 or tested >= len(known):
        raise InputError(f"{len(known)} labelled nodes are too few to judge vectors by")
    rows = []
    for seed in range(splits):
        order = np.random.default_rng(seed).permutation(known)
        train, test = order[:learned], order[tested:]
        if len(np.unique(labels[train])) < 2:
            rows.append(labels[test] == labels[train][0])
            continue
        model: Any = LogisticRegression(C=1.0, max_iter=1000).fit(vectors[train], labels[train])
        rows.append(model.predict(vectors[test]) == labels[test])
    right = np.stack(rows).astype(np.float64)
    return Sample(right, np.ones_like(right))


def most_frequent(labels: npt.NDArray[np.int64]) -> float:
    """The share of labelled nodes in the most frequent class."""
    counts = np.bincount(labels[labels >= 0])
    return float(counts.max() / counts.sum())
