"""One space by its own anchors, as a transformer of scikit-learn: for a head that is to read other spaces too."""

from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from regraft.align.aligner import Floats, one_line
from regraft.align.aligners.relative_representations.coordinates import Coordinates, Pooling, Quantizer, Recipe, Steps, class_means
from regraft.align.aligners.relative_representations.projections import Similarity
from regraft.align.anchors import Sampler, draw_anchors
from regraft.errors import RowsError

NAME = "relative-representations"


class RelativeSpace(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Relative coordinates of one space (Moschella et al. 2023, section 3).

    The rows given to `fit` are the anchors, all of them in their order, or `n_anchors` that a sampler draws. For a second space fit another
    one on the rows of the same anchors (`anchor_indices_`).

    Parameters
    ----------
    similarity, steps, chunks, pooling, aggregation, quantizer, width, ridge : as in `RelativeRepresentations`.
    average : "class": mean similarity to the anchors of each class, which `fit` takes as y; classes in sorted order. "none": each anchor.
    n_anchors : how many to draw; None takes every row, in its order.
    sampler : "uniform", "stratified" (by y), "farthest" or "k-means", where anchors are drawn.
    random_state : seed of the draw.

    Returns (m, features): k, or the number of classes, for each chunk and similarity that is concatenated.
    """

    def __init__(
        self,
        *,
        similarity: Similarity | tuple[Similarity, ...] = "cosine",
        steps: Steps = "none",
        chunks: Annotated[int, Field(ge=1)] = 1,
        pooling: Pooling = "concat",
        aggregation: Pooling = "sum",
        quantizer: Quantizer = "none",
        width: Annotated[float, Field(gt=0)] = 0.1,
        ridge: Annotated[float, Field(ge=0)] = 0.0,
        average: Literal["none", "class"] = "none",
        n_anchors: int | None = None,
        sampler: Sampler = "uniform",
        random_state: int = 0,
    ) -> None:
        self.similarity, self.steps, self.chunks = similarity, steps, chunks
        self.pooling, self.aggregation = pooling, aggregation
        self.quantizer, self.width, self.ridge = quantizer, width, ridge
        self.average, self.n_anchors, self.sampler, self.random_state = average, n_anchors, sampler, random_state

    def fit(self, X: Floats, y: Any = None) -> Self:
        """Take the anchors from rows X (n, d); y are classes, where they are needed. Raises `ParameterError`."""
        with one_line(NAME):
            rows = validate_data(self, X, dtype=np.float64)
            needs = self.average == "class" or (self.n_anchors is not None and self.sampler == "stratified")
            if needs and y is None:
                raise RowsError("requires y to be passed, but the target y is None: give the classes of the rows")
            classes = column_or_1d(y) if needs else None
            if classes is not None and len(classes) != len(rows):
                raise RowsError(f"{len(rows)} rows and {len(classes)} classes: they must be as many")
        if self.n_anchors is None:
            self.anchor_indices_ = np.arange(len(rows))
        else:
            labels = classes if self.sampler == "stratified" else None
            self.anchor_indices_ = draw_anchors(self.n_anchors, sampler=self.sampler, rows=rows, labels=labels, seed=self.random_state)
        self.anchors_ = rows[self.anchor_indices_]
        self.coordinates_ = Coordinates(self.anchors_, self._recipe())
        if self.average == "class":
            if self.chunks > 1 and self.pooling == "concat":
                raise RowsError(f"{NAME}: average=class of concatenated chunks: choose another pooling")
            assert classes is not None
            self.classes_, self.anchor_classes_ = np.unique(classes[self.anchor_indices_], return_inverse=True)
        return self

    def transform(self, X: Floats) -> Floats:
        """Relative coordinates of rows X (m, d), shape (m, features). Raises `ParameterError` for NaN or another dimension."""
        check_is_fitted(self)
        with one_line(NAME):
            rows = validate_data(self, X, dtype=np.float64, reset=False)
        if self.average == "none":
            return self.coordinates_.relative(rows)
        count = len(self.classes_)
        return np.concatenate([class_means(block, self.anchor_classes_, count) for block in self.coordinates_.blocks(rows)])

    def inverse_transform(self, R: Floats) -> Floats:
        """Rows (m, d) of this space that have the relative coordinates R (m, k); of length 1 for "cosine" without steps.

        Raises `ParameterError` where the settings can't be undone.
        """
        check_is_fitted(self)
        if self.average == "class":
            raise RowsError(f"{NAME}: means over classes can't be turned into vectors: use average=none")
        return self.coordinates_.absolute(np.asarray(R, dtype=np.float64), restore=self.steps != "none")

    def _recipe(self) -> Recipe:
        return Recipe(**{name: getattr(self, name) for name in Recipe.__dataclass_fields__})
