"""One vector by its similarities to k anchors, and where that can be undone, the vector again.

Enters: rows (n, d) and anchors (k, d) of one space, float64. Leaves: similarities (n, k). Distances are taken by scipy's compiled loops, so
nothing of size n x k x d is made.
"""

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from regraft.align.aligner import unit_rows
from regraft.errors import RowsError

Rows = npt.NDArray[np.floating[Any]]
Similarity = Literal["cosine", "inner", "euclidean", "l1", "linf", "angular", "basis"]
SIMILARITIES: tuple[Similarity, ...] = get_args(Similarity)
DIRECTIONS = ("cosine", "angular")  # see only the direction of a vector
METRICS = {"euclidean": "euclidean", "l1": "cityblock", "linf": "chebyshev"}
EPS = 1e-12


def project(rows: Rows, anchors: Rows, similarity: Similarity, ridge: float = 0.0) -> Rows:
    r"""Similarities of rows (n, d) to anchors (k, d), shape (n, k).

    "cosine" :math:`\hat X \hat A^\top`; "inner" :math:`X A^\top / \sqrt d`; "angular" :math:`\arccos(\hat X \hat A^\top) / \pi`;
    "euclidean", "l1" and "linf" are the distances themselves; "basis" are the coordinates *c* of least squares,
    :math:`\min_c \lVert c A - x \rVert^2 + \lambda \lVert c \rVert^2`, of least length where there are many (:math:`\lambda` is
    `ridge`). A vector of length 0 has cosine 0.
    """
    if similarity in METRICS:
        return np.asarray(cdist(rows, anchors, METRICS[similarity]))
    if similarity in ("inner", "basis"):
        return np.asarray(rows @ forward_of(anchors, similarity, ridge))
    cosine = np.clip(unit_rows(rows) @ unit_rows(anchors).T, -1.0, 1.0)
    return np.asarray(cosine if similarity == "cosine" else np.arccos(cosine) / np.pi)


def coordinates_of(anchors: Rows, ridge: float) -> Rows:
    """The matrix (d, k) that takes a row to its coordinates in the anchors: a (ridge) pseudo-inverse by singular values."""
    u, s, vt = np.linalg.svd(anchors, full_matrices=False)
    kept = s > max(anchors.shape) * np.finfo(np.float64).eps * s.max(initial=0.0)
    weights = np.divide(s, s * s + ridge, out=np.zeros_like(s), where=kept)
    return np.asarray((vt.T * weights) @ u.T)


def forward_of(anchors: Rows, similarity: Similarity, ridge: float = 0.0) -> Rows:
    """The matrix (d, k) that takes rows to their similarities, for "cosine" (rows of length 1), "inner" and "basis"."""
    if similarity == "basis":
        return coordinates_of(anchors, ridge)
    return np.asarray(unit_rows(anchors).T if similarity == "cosine" else anchors.T / np.sqrt(anchors.shape[1]))


def inverse_of(anchors: Rows, similarity: Similarity) -> Rows:
    """The matrix (k, d) that `unproject` multiplies with. Raises `ParameterError` for "l1" and "linf", which have no such form."""
    if similarity in DIRECTIONS:
        return np.asarray(np.linalg.pinv(unit_rows(anchors)).T)
    if similarity == "inner":
        return np.asarray(np.sqrt(anchors.shape[1]) * np.linalg.pinv(anchors).T)
    if similarity == "euclidean":
        return np.asarray(0.5 * np.linalg.pinv(anchors - anchors.mean(0)).T)
    if similarity == "basis":
        return anchors
    raise RowsError(f"distances {similarity} can't be turned back into vectors: use cosine, inner, angular, euclidean or basis")


def unproject(relative: Rows, anchors: Rows, similarity: Similarity, inverse: Rows | None = None) -> Rows:
    r"""The rows (n, d) whose similarities to `anchors` come closest to `relative` (n, k); exact where the anchors span the space.

    "cosine": :math:`\hat x = r (\hat A^\top)^{+}` (inverse relative projection), of length 1 when exact; "angular" by its cosine; "inner"
    and "basis" linearly; "euclidean" by the differences of squared distances, which are linear in x and need d + 1 anchors. `inverse` is
    `inverse_of` the anchors, where it is known.
    """
    inverse = inverse_of(anchors, similarity) if inverse is None else inverse
    if similarity == "angular":
        return np.asarray(np.cos(np.pi * relative) @ inverse)
    if similarity == "euclidean":
        squares, left = (anchors**2).sum(1), relative**2
        relative = (squares - squares.mean()) - (left - left.mean(1, keepdims=True))  # = 2 x (a_i - mean a)
    return np.asarray(relative @ inverse)
