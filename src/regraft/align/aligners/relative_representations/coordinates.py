"""One space seen from its anchors: the steps before the similarities, subspaces, several similarities at once, and quantisation.

Enters: `Recipe`, what is done, and the anchors' rows (k, d). Leaves: `Coordinates`, which takes rows of that space to relative coordinates,
and where the recipe allows, back. Rows go through in blocks.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from regraft.align.aligner import unit_rows
from regraft.align.aligners.relative_representations.projections import (
    DIRECTIONS,
    SIMILARITIES,
    Rows,
    Similarity,
    forward_of,
    inverse_of,
    project,
    unproject,
)
from regraft.errors import RowsError

Steps = Literal["none", "center", "whiten"]
Pooling = Literal["concat", "sum", "mean", "max"]
Quantizer = Literal["none", "round", "smooth", "cluster"]
LINEAR = ("cosine", "inner", "basis")  # in the row, once it has length 1 for the first
BLOCK_BYTES = 32 << 20
LAYER_NORM_EPS = 1e-5


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is done to a space; the meaning of each field is told at `RelativeSpace`. Raises `ParameterError` for values out of range."""

    similarity: Similarity | tuple[Similarity, ...] = "cosine"
    steps: Steps = "none"
    chunks: int = 1
    pooling: Pooling = "concat"
    aggregation: Pooling = "sum"
    quantizer: Quantizer = "none"
    width: float = 0.1
    ridge: float = 0.0

    def __post_init__(self) -> None:
        unknown = [one for one in self.similarities if one not in SIMILARITIES]
        if unknown or not self.similarities:
            raise RowsError(f"relative-representations: no similarity {unknown}: choose of {', '.join(SIMILARITIES)}")
        if self.chunks < 1:
            raise RowsError(f"relative-representations: chunks={self.chunks}: give 1 or more")
        if not self.width > 0:
            raise RowsError(f"relative-representations: width={self.width}: give a number above 0")
        if not self.ridge >= 0:
            raise RowsError(f"relative-representations: ridge={self.ridge}: give 0 or more")

    @property
    def similarities(self) -> tuple[Similarity, ...]:
        return (self.similarity,) if isinstance(self.similarity, str) else tuple(self.similarity)

    @property
    def invertible(self) -> bool:
        return len(self.similarities) == 1 and self.chunks == 1 and self.similarities[0] not in ("l1", "linf")


class Coordinates:
    """A space and its anchors, after the steps.

    Attributes
    ----------
    mean, matrix : what the steps take off and multiply with: (d,) and (d, r), or None.
    anchors : (k, r) after the steps and, with the quantizer "cluster", each the mean of its cluster.
    """

    def __init__(self, anchors: Rows, recipe: Recipe) -> None:
        self.recipe = recipe
        self.mean = np.zeros(anchors.shape[1]) if recipe.steps == "none" else anchors.mean(0)
        self.matrix = _whitener(anchors - self.mean) if recipe.steps == "whiten" else None
        stepped = self._stepped(anchors)
        self.centers = _cluster_means(stepped, recipe.width) if recipe.quantizer == "cluster" else None
        self.anchors = self._clustered(stepped)
        if recipe.chunks > self.anchors.shape[1]:
            raise RowsError(f"relative-representations: chunks={recipe.chunks} of {self.anchors.shape[1]} dimensions: give fewer chunks")

    def relative(self, rows: Rows) -> Rows:
        """Relative coordinates of rows (n, d), shape (n, features): k of them, times `chunks` or similarities that are concatenated."""
        return np.concatenate(list(self.blocks(rows))) if len(rows) else np.empty((0, 0))

    def blocks(self, rows: Rows) -> Iterator[Rows]:
        """The same, block by block, for callers that need not keep all of it."""
        size = max(1, BLOCK_BYTES // (8 * len(self.anchors) * self.recipe.chunks * len(self.recipe.similarities)))
        lost = 0
        for start in range(0, len(rows), size):
            stepped = self._clustered(self._stepped(rows[start : start + size]))
            lost += int((~stepped.any(1)).sum())
            yield self._quantized(self._described(stepped))
        self._warn(lost, len(rows))

    def absolute(self, relative: Rows, *, restore: bool) -> Rows:
        """Rows (n, d) of this space whose relative coordinates these are (n, k).

        With `restore` the steps are undone, and where the similarity sees directions only, rows have the anchors' mean length; without it
        they are as the steps left them. Raises `ParameterError` for a recipe that can't be undone.
        """
        found = unproject(relative, self.anchors, self.recipe.similarities[0], self.inverse)
        return self._restored(found) if restore else found

    def mapped(self, rows: Rows, other: "Coordinates", *, restore: bool) -> Rows:
        """Rows (n, d) of this space in the other one, (n, e). Where both ways are linear they are one matrix, however many anchors."""
        similarity = self.recipe.similarities[0]
        if similarity not in LINEAR or self.recipe.quantizer in ("round", "smooth") or not self.recipe.invertible:
            return np.concatenate([other.absolute(block, restore=restore) for block in self.blocks(rows)])
        stepped = self._clustered(self._stepped(rows))
        if similarity == "cosine":
            self._warn(int((~stepped.any(1)).sum()), len(rows))
            stepped = unit_rows(stepped)
        found = stepped @ (forward_of(self.anchors, similarity, self.recipe.ridge) @ other.inverse)
        return other._restored(found) if restore else np.asarray(found)

    @cached_property
    def inverse(self) -> Rows:
        """See `inverse_of`. Raises `ParameterError` for a recipe that can't be undone."""
        if not self.recipe.invertible:
            raise RowsError(
                "relative-representations: these coordinates can't be turned into vectors: use space=relative, or one similarity "
                "of cosine, inner, angular, euclidean and basis with chunks=1"
            )
        return inverse_of(self.anchors, self.recipe.similarities[0])

    def _restored(self, found: Rows) -> Rows:
        if self.recipe.similarities[0] in DIRECTIONS:
            found = found * np.linalg.norm(self.anchors, axis=1).mean()
        if self.matrix is not None:
            found = found @ np.linalg.pinv(self.matrix)
        return np.asarray(found + self.mean)

    def _warn(self, lost: int, of: int) -> None:
        if lost and any(one in DIRECTIONS for one in self.recipe.similarities):
            warnings.warn(f"relative-representations: {lost} of {of} rows have length 0 and no direction", stacklevel=4)

    def _stepped(self, rows: Rows) -> Rows:
        if self.recipe.steps == "none":
            return rows
        centered = rows - self.mean
        return np.asarray(centered if self.matrix is None else centered @ self.matrix)

    def _clustered(self, stepped: Rows) -> Rows:
        """Each row replaced by the mean of the cluster of anchors that is nearest to it, the first of equals."""
        if self.centers is None:
            return stepped
        from sklearn.metrics import pairwise_distances_argmin

        return np.asarray(self.centers[pairwise_distances_argmin(stepped, self.centers)])

    def _described(self, stepped: Rows) -> Rows:
        found = [self._by_chunks(stepped, one) for one in self.recipe.similarities]
        if len(found) == 1:
            return found[0]
        return pooled([layer_norm(one) for one in found], self.recipe.aggregation)

    def _by_chunks(self, stepped: Rows, similarity: Similarity) -> Rows:
        if self.recipe.chunks == 1:
            return project(stepped, self.anchors, similarity, self.recipe.ridge)
        parts = zip(*(np.array_split(one, self.recipe.chunks, axis=1) for one in (stepped, self.anchors)), strict=True)
        return pooled([project(left, right, similarity, self.recipe.ridge) for left, right in parts], self.recipe.pooling)

    def _quantized(self, found: Rows) -> Rows:
        width, quantizer = self.recipe.width, self.recipe.quantizer
        if quantizer == "round":
            return np.asarray(np.round(found / width) * width)
        if quantizer == "smooth":
            turns = found / width
            return np.asarray(width * (turns - np.sin(2 * np.pi * turns) / (2 * np.pi)))
        return found


def pooled(parts: list[Rows], pooling: Pooling) -> Rows:
    """Several descriptions of the same rows as one."""
    if pooling == "concat":
        return np.concatenate(parts, axis=1)
    stacked = np.stack(parts)
    return np.asarray(stacked.max(0) if pooling == "max" else stacked.sum(0) if pooling == "sum" else stacked.mean(0))


def layer_norm(rows: Rows) -> Rows:
    """Each row minus its mean, by its standard deviation."""
    centered = rows - rows.mean(1, keepdims=True)
    return np.asarray(centered / np.sqrt((centered**2).mean(1, keepdims=True) + LAYER_NORM_EPS))


def class_means(relative: Rows, classes: npt.NDArray[Any], count: int) -> Rows:
    """Mean similarity to the anchors of each class: (n, k) and the class number of each anchor -> (n, classes)."""
    picked = np.zeros((len(classes), count))
    picked[np.arange(len(classes)), classes] = 1 / np.bincount(classes, minlength=count)[classes]
    return np.asarray(relative @ picked)


def _whitener(centered: Rows) -> Rows:
    """The matrix (d, r) after which the anchors have unit covariance; r is their rank: directions that they lack are lost."""
    _, s, vt = np.linalg.svd(centered, full_matrices=False)
    kept = s > max(centered.shape) * np.finfo(np.float64).eps * s.max(initial=0.0)
    if not kept.any():
        raise RowsError("relative-representations: the anchors are all alike and can't be whitened: give different ones")
    return np.asarray(vt[kept].T * (np.sqrt(len(centered)) / s[kept]))


def _cluster_means(stepped: Rows, threshold: float) -> Rows:
    if len(stepped) < 2:
        return stepped
    from sklearn.cluster import AgglomerativeClustering

    labels = AgglomerativeClustering(n_clusters=None, distance_threshold=threshold, linkage="average").fit_predict(stepped)
    sums = np.zeros((labels.max() + 1, stepped.shape[1]))
    np.add.at(sums, labels, stepped)
    return np.asarray(sums / np.bincount(labels)[:, None])
