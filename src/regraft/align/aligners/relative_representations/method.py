"""Relative representations as a map between two spaces: fitted on parallel anchors, it needs nothing else."""

from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from regraft.align.aligner import Aligner, Floats, unit_rows
from regraft.align.aligners.relative_representations.coordinates import Coordinates, Pooling, Quantizer, Recipe, Steps
from regraft.align.aligners.relative_representations.projections import Similarity
from regraft.errors import RowsError
from regraft.method import Paper

Side = Literal["source", "target"]


class RelativeRepresentations(Aligner):
    r"""Rows by their similarities to anchors that both spaces share (Moschella et al. 2023, section 3).

    The pairs given to `fit` are the anchors, :math:`A` in the first space and :math:`B` in the second, in one order. A row has the relative
    coordinates :math:`r_i = (\mathrm{sim}(x_i, a_1), \dots, \mathrm{sim}(x_i, a_k))`, which rotations, reflections and scales of its space
    leave as they are. `relative` gives them for either space, and `transform`, as every map of this family does, the rows of the second
    space that have them (inverse relative projection, 2406.15057): :math:`\hat x = r\,(\hat B^\top)^{+}`.

    Parameters
    ----------
    similarity : "cosine" (paper), "inner" (by the root of d), "euclidean", "l1", "linf" (distances), "angular" (arccos / pi), "basis"
        (coordinates of least squares in the anchors); several, which are normalised (LayerNorm) and aggregated (Cannistraci et al. 2024).
    steps : before the similarities: "none" (paper); "center" (minus the anchors' mean; do so for transformers, whose cosines are all high);
        "whiten" (and unit covariance of the anchors). Each space has its own.
    chunks : so many subspaces of neighbouring dimensions, each with its own similarities.
    pooling : of chunks: "concat", "sum", "mean", "max".
    aggregation : of several similarities: the same words.
    quantizer : "none"; "round" to multiples of `width`; "smooth" steps; "cluster" (each row becomes the mean of the nearest cluster of
        anchors: average linkage up to distance `width`; the paper clusters the data that is projected, here the anchors decide).
    width : of a step, or the distance of "cluster".
    ridge : penalty of "basis".
    space : what `transform` gives: "target", rows of the second space, or "relative" coordinates.
    restore : whether rows of the second space have its mean, its scale and, of directions, the anchors' mean length; else as the steps left
        them, of length 1 for "cosine".

    Returns rows (m, e) of the second space, or (m, k) relative coordinates; `score` is the mean cosine in the one or the other.
    """

    paper = Paper("Relative representations enable zero-shot latent space communication", "Moschella et al.", 2023, "2209.15430")
    summary = "similarities to shared anchors, so that a head for one space reads another"
    fitted: ClassVar[tuple[str, ...]] = ("source_anchors", "target_anchors")

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
        space: Literal["target", "relative"] = "target",
        restore: bool = True,
    ) -> None:
        self.similarity, self.steps, self.chunks = similarity, steps, chunks
        self.pooling, self.aggregation = pooling, aggregation
        self.quantizer, self.width, self.ridge = quantizer, width, ridge
        self.space, self.restore = space, restore

    def fit(self, X: Floats, y: Floats) -> Self:
        """Take the anchors: rows X (k, d) and y (k, e); a pair that comes again is dropped.

        Raises `ParameterError` for rows that are no pairs, anchors without any direction, and settings that can't be undone.
        """
        source, target = self.pairs(X, y)
        first = np.sort(np.unique(np.hstack([source, target]), axis=0, return_index=True)[1])
        self.source_anchors_, self.target_anchors_ = source[first], target[first]
        recipe = self._recipe()
        if self.space == "target":
            Coordinates(self.source_anchors_, recipe).mapped(  # refused here rather than at the first row
                self.source_anchors_[:1], Coordinates(self.target_anchors_, recipe), restore=False
            )
        return self

    def transform(self, X: Floats) -> Floats:
        """Rows X (m, d) in the space of y, shape (m, e), or their relative coordinates. Raises `ParameterError` for another dimension."""
        rows = self.rows(X)
        source = Coordinates(self.source_anchors_, self._recipe())
        if self.space == "relative":
            return source.relative(rows)
        return source.mapped(rows, Coordinates(self.target_anchors_, self._recipe()), restore=self.restore)

    def relative(self, rows: Floats, side: Side = "source") -> Floats:
        """Relative coordinates (m, k) of rows of the first space ("source") or of the second ("target")."""
        if side == "source":
            return Coordinates(self.source_anchors_, self._recipe()).relative(self.rows(rows))
        given = np.asarray(rows, dtype=np.float64)
        if given.ndim != 2 or given.shape[1] != self.target_anchors_.shape[1]:
            raise RowsError(f"{self.name}: shape {given.shape} for a space of {self.target_anchors_.shape[1]} dimensions")
        if not np.isfinite(given).all():
            raise RowsError(f"{self.name}: NaN or infinity among the rows of the second space: remove them")
        return Coordinates(self.target_anchors_, self._recipe()).relative(given)

    def score(self, X: Floats, y: Floats) -> float:
        """Mean cosine of rows with their partners, in [-1, 1], where `transform` puts them."""
        if self.space == "target":
            return super().score(X, y)
        second = self.relative(np.asarray(y).reshape(len(y), -1), "target")
        return float((unit_rows(self.relative(X)) * unit_rows(second)).sum(1).mean())

    def _recipe(self) -> Recipe:
        fields: dict[str, Any] = {name: getattr(self, name) for name in Recipe.__dataclass_fields__}
        if isinstance(fields["similarity"], list):  # as a map that was kept as JSON has it
            fields["similarity"] = tuple(fields["similarity"])
        return Recipe(**fields)
