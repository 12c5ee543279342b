"""Procrustes: the rotation that brings paired points closest."""

from typing import Literal, Self

import numpy as np

from regraft.align.aligner import Aligner, Floats, unit_rows
from regraft.errors import ParameterError
from regraft.method import Paper

Steps = Literal["none", "unit", "unit-center-unit"]


class Procrustes(Aligner):
    r"""Orthogonal map of least squares (Schönemann 1966; Conneau et al. 2018, section 2).

    :math:`\min_{W^\top W = I} \lVert X W - Y \rVert_F` has :math:`W = U V^\top` with :math:`X^\top Y = U S V^\top`; a row x goes to
    :math:`x W`. Where the dimensions differ, *W* has the first *r* columns of *U* and *V*, *r* the smaller: what lies outside is lost.

    Parameters
    ----------
    steps : what is done to the rows of either space first: "none"; "unit" (length 1); "unit-center-unit" (length 1, minus the mean of the
        rows given to `fit`, length 1 again). The means are kept and taken off rows that come later.

    Returns rows of the second space (m, e), after the same steps: of length at most 1 unless `steps` is "none".
    """

    paper = Paper("Word Translation Without Parallel Data", "Conneau et al.", 2018, "1710.04087")
    summary = "the rotation that brings paired points closest"
    fitted = ("rotation", "source_mean", "target_mean")

    def __init__(self, *, steps: Steps = "unit-center-unit") -> None:
        self.steps = steps

    def fit(self, X: Floats, y: Floats) -> Self:
        """Learn from paired rows X (n, d) and y (n, e). Raises `ParameterError` for NaN, no rows, or rows that have no direction."""
        source, target = self.pairs(X, y)
        self.source_mean_, self.target_mean_ = self._mean(source), self._mean(target)
        source, target = self._stepped(source, self.source_mean_), self._stepped(target, self.target_mean_)
        if not source.any() or not target.any():
            size = f"n_samples={len(source)}, n_features={source.shape[1]}"
            raise ParameterError(f"{self.name}: no pair has a direction ({size}): give rows that are not all alike")
        u, _, vt = np.linalg.svd(source.T @ target, full_matrices=False)
        self.rotation_ = u @ vt
        return self

    def transform(self, X: Floats) -> Floats:
        """Rows X (m, d) in the space of y, shape (m, e). Raises `ParameterError` for rows of another dimension."""
        return np.asarray(self._stepped(self.rows(X), self.source_mean_) @ self.rotation_)

    def _mean(self, rows: Floats) -> Floats:
        return unit_rows(rows).mean(0) if self.steps == "unit-center-unit" else np.zeros(rows.shape[1])

    def _stepped(self, rows: Floats, mean: Floats) -> Floats:
        if self.steps == "none":
            return rows
        return unit_rows(rows) if self.steps == "unit" else unit_rows(unit_rows(rows) - mean)
