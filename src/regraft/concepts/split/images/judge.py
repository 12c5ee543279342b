r"""Whether drawn images are of the class they were asked to be, and how far they are from real ones.

Enters: real images by class that no model was trained on. Leaves: a judge with its own accuracy on others, a mark for each drawn image, and
the Fréchet distance of each class in the space of 20 principal components:

.. math:: \lVert \mu - \mu' \rVert^2 + \mathrm{tr}(\Sigma + \Sigma' - 2 (\Sigma \Sigma')^{1/2})
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from regraft.concepts.split.images.pictures import Pictures
from regraft.errors import InputError

SCORES = 20
Floats = npt.NDArray[np.float64]


class Judge:
    """A support vector machine (C = 10, radial) and principal components, fitted on `real`; `accuracy` is that on `other` real images."""

    def __init__(self, real: Pictures, other: Pictures) -> None:
        from sklearn.decomposition import PCA
        from sklearn.svm import SVC

        rows, self.labels = _flat(real.images), real.labels.numpy()
        counts = np.bincount(self.labels, minlength=len(real.names))
        if counts.min() < 2 or len(real.names) < 2:
            raise InputError(f"class {real.names[int(counts.argmin())]!r}: {counts.min()} images left to judge by: give more a class")
        self.judge = SVC(C=10, gamma="scale").fit(rows, self.labels)
        self.scores = PCA(min(SCORES, *rows.shape), random_state=0).fit(rows)
        self.real = self.scores.transform(rows)
        self.accuracy = float((self.judge.predict(_flat(other.images)) == other.labels.numpy()).mean())

    def right(self, drawn: Tensor, labels: list[int] | None = None) -> Floats:
        """(classes x images,) 1 where an image of `drawn` (classes, n, C, H, W) is taken for its class."""
        labels = list(range(len(drawn))) if labels is None else labels
        found = self.judge.predict(_flat(drawn.flatten(0, 1)))
        return np.asarray(found == np.repeat(labels, drawn.shape[1]), dtype=np.float64)

    def distances(self, drawn: Tensor, labels: list[int] | None = None) -> Floats:
        """(classes,) Fréchet distance of each class to the real one; NaN of a single image."""
        if drawn.shape[1] < 2:
            return np.full(len(drawn), np.nan)
        labels = list(range(len(drawn))) if labels is None else labels
        return np.array(
            [frechet(self.scores.transform(_flat(one)), self.real[self.labels == label]) for one, label in zip(drawn, labels, strict=True)]
        )


def frechet(x: Any, y: Any) -> float:
    """Of two samples (n, d) and (m, d)."""
    first, second = (np.cov(one, rowvar=False).reshape(one.shape[1], -1) for one in (x, y))
    roots = np.sqrt(np.clip(np.linalg.eigvals(first @ second).real, 0, None)).sum()
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * roots)


def _flat(images: Tensor) -> Any:
    return torch.nan_to_num(images).flatten(1).double().numpy() * 8
