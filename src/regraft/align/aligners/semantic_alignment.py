"""Semantic alignment: a map estimated directly on the anchors, in four ways."""

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field

from regraft.align.aligner import Aligner, Floats
from regraft.method import Paper

Estimation = Literal["ortho", "linear", "l-ortho", "affine"]
BETA1, BETA2, ADAM_EPS = 0.9, 0.999, 1e-8


class SemanticAlignment(Aligner):
    r"""A linear or affine map between latent spaces from parallel anchors (Maiorca et al. 2023, section 3).

    Both spaces are standardised by the anchors' mean and standard deviation, :math:`\tilde X` and :math:`\tilde Y`; the smaller one gets
    columns of zeros. A row goes to :math:`\tilde x R + b`, back in the scale of the second space.

    Parameters
    ----------
    estimation : "ortho", the orthogonal R of least squares, by singular values (usually best); "linear", least squares, of least norm where
        anchors are fewer than dimensions; "l-ortho", the orthogonal matrix nearest to that one; "affine", R and b by Adam on the squared
        error. Only "affine" has a b; of standardised anchors that of least squares is 0.
    standardize : whether to standardise; else rows are taken as they are.
    n_steps : of Adam, on all anchors at once, for "affine".
    lr : its learning rate.
    random_state : seed of its start, uniform within one by the root of d.

    Returns rows of the second space (m, e).
    """

    paper = Paper("Latent Space Translation via Semantic Alignment", "Maiorca et al.", 2023, "2311.00664")
    summary = "one map between latent spaces, estimated on parallel anchors"
    fitted = ("matrix", "bias", "source_mean", "source_scale", "target_mean", "target_scale")

    def __init__(
        self,
        *,
        estimation: Estimation = "ortho",
        standardize: bool = True,
        n_steps: Annotated[int, Field(ge=1)] = 300,
        lr: Annotated[float, Field(gt=0)] = 1e-3,
        random_state: int = 0,
    ) -> None:
        self.estimation, self.standardize = estimation, standardize
        self.n_steps, self.lr, self.random_state = n_steps, lr, random_state

    def fit(self, X: Floats, y: Floats) -> Self:
        """Learn from paired rows X (n, d) and y (n, e). Raises `ParameterError` for rows that are no pairs, NaN, no rows."""
        source, target = self.pairs(X, y)
        self.source_mean_, self.source_scale_ = self._statistics(source)
        self.target_mean_, self.target_scale_ = self._statistics(target)
        left = (source - self.source_mean_) / self.source_scale_
        right = (target - self.target_mean_) / self.target_scale_
        size = max(left.shape[1], right.shape[1])
        wide, tall = (np.pad(one, ((0, 0), (0, size - one.shape[1]))) for one in (left, right))
        bias = np.zeros(size)
        if self.estimation == "ortho":
            matrix = _orthogonal(wide.T @ tall)
        elif self.estimation == "affine":
            matrix, bias = self._descend(wide, tall)
        else:
            matrix = np.linalg.lstsq(wide, tall, rcond=None)[0]
            matrix = matrix if self.estimation == "linear" else _orthogonal(matrix)
        self.matrix_, self.bias_ = matrix[: left.shape[1], : right.shape[1]], bias[: right.shape[1]]
        return self

    def transform(self, X: Floats) -> Floats:
        """Rows X (m, d) in the space of y, shape (m, e). Raises `ParameterError` for rows of another dimension."""
        mapped = (self.rows(X) - self.source_mean_) / self.source_scale_ @ self.matrix_ + self.bias_
        return np.asarray(mapped * self.target_scale_ + self.target_mean_)

    def _statistics(self, rows: Floats) -> tuple[Floats, Floats]:
        if not self.standardize:
            return np.zeros(rows.shape[1]), np.ones(rows.shape[1])
        scale = rows.std(0)
        return rows.mean(0), np.where(scale > 0, scale, 1.0)

    def _descend(self, left: Floats, right: Floats) -> tuple[Floats, Floats]:
        """Adam on the mean squared error, the bias as a column of ones."""
        n, size = left.shape
        given = np.hstack([left, np.ones((n, 1))])
        bound = 1 / np.sqrt(size)
        weights = np.random.default_rng(self.random_state).uniform(-bound, bound, (size + 1, size))
        gram, cross = given.T @ given, given.T @ right
        first, second = np.zeros_like(weights), np.zeros_like(weights)
        for step in range(1, self.n_steps + 1):
            gradient = 2 / (n * size) * (gram @ weights - cross)
            first = BETA1 * first + (1 - BETA1) * gradient
            second = BETA2 * second + (1 - BETA2) * gradient**2
            weights -= self.lr * (first / (1 - BETA1**step)) / (np.sqrt(second / (1 - BETA2**step)) + ADAM_EPS)
        return weights[:-1], weights[-1]


def _orthogonal(matrix: Floats) -> Floats:
    u, _, vt = np.linalg.svd(matrix)
    return np.asarray(u @ vt)
