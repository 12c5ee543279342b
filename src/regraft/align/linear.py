r"""Maps that are a matrix a side, and what is done to rows before: what all aligners of words share.

Enters: paired rows, and where a method wants more than pairs, the whole tables that they come from. Leaves: a fitted map. Rows are row
vectors everywhere: x goes to :math:`x W`, the transpose of the papers' :math:`W x`.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from regraft.align.aligner import Aligner, Floats, unit_rows
from regraft.align.nearest import unit_float32
from regraft.errors import RowsError
from regraft.graft import iterate_blocks
from regraft.method import configure

Steps = Literal["none", "unit", "unit-center-unit"]
Ids = npt.NDArray[np.int64]


def mean_of(rows: Floats, steps: Steps) -> npt.NDArray[np.float64]:
    """What is taken off rows (n, d) in the middle of `steps`: the mean over rows of unit length, in float64; zeros where nothing is."""
    total = np.zeros(rows.shape[1])
    if steps == "unit-center-unit":
        for block in iterate_blocks(len(rows), 1 << 14):
            total += unit_rows(rows[block].astype(np.float64)).sum(0)
    return total / max(1, len(rows))


def stepped(rows: Floats, steps: Steps, mean: Floats) -> Floats:
    """`steps` on rows (n, d) with the kept `mean`."""
    if steps == "none":
        return rows
    return unit_rows(rows) if steps == "unit" else unit_rows(unit_rows(rows) - mean)


@dataclass(frozen=True, eq=False)
class Spaces:
    """Both tables after their steps, and which of their rows are pairs.

    Attributes
    ----------
    source, target : (n, d) and (m, e), float32 where they were given so, else float64.
    pairs : (k, 2) row of `source` and row of `target`.
    """

    source: Floats
    target: Floats
    pairs: Ids

    @property
    def words(self) -> Ids:
        """Which rows of `source` are in pairs, each once, ascending."""
        return np.unique(self.pairs[:, 0])

    def sides(self, pairs: Ids | None = None) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Rows of either side for `pairs` (None: all), in float64."""
        chosen = self.pairs if pairs is None else pairs
        return self.source[chosen[:, 0]].astype(np.float64), self.target[chosen[:, 1]].astype(np.float64)


class LinearAligner(Aligner):
    """A map :math:`x W` after `steps`, learned by `learn` from both tables. Subclasses name their parameters, `steps` among them.

    Attributes after `fit`
    ----------------------
    map_ : (d, e). target_map_ : (e', e) where the method maps the other side too. source_mean_, target_mean_ : taken off in the steps.
    """

    fitted: ClassVar[tuple[str, ...]] = ("map", "source_mean", "target_mean")
    steps: Steps

    def fit(
        self,
        X: Floats,
        y: Floats,
        *,
        source: Floats | None = None,
        target: Floats | None = None,
        pairs: Ids | None = None,
    ) -> Self:
        """Learn from paired rows X (k, d) and y (k, e).

        Parameters
        ----------
        source, target : the whole tables (n, d) and (m, e) that X and y were taken from, most frequent first. Means are over them, and
            neighbours are looked for in them; without them, among X and y.
        pairs : (k, 2), which row of `source` X[i] and which row of `target` y[i] is. Needed with tables.

        Raises `ParameterError`: NaN, no rows, rows that have no direction, or pairs that are not rows of the tables.
        """
        configure(type(self), self.get_params(deep=False))  # refuses in one line what the constructor only stores
        left, right = self.pairs(X, y)
        spaces = self._spaces(left, right, source, target, pairs)
        first, second = spaces.sides()
        if not first.any() or not second.any():
            size = f"n_samples={len(left)}, n_features={left.shape[1]}"
            raise RowsError(f"{self.name}: no pair has a direction ({size}): give rows that are not all alike")
        self.learn(spaces)
        return self

    @abstractmethod
    def learn(self, spaces: Spaces) -> None:
        """Set `map_` (and what else `fitted` names) from prepared tables."""

    def transform(self, X: Floats) -> Floats:
        """Rows X (m, d) where rows of the other side are compared with them, shape (m, e). Raises `ParameterError`: another dimension."""
        return np.asarray(stepped(self.rows(X), self.steps, self.source_mean_) @ self.map_)

    def transform_target(self, y: Floats) -> Floats:
        """Rows of the other side (m, e) where mapped rows are compared with them: after the same steps, mapped where the method does."""
        other: Floats = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
        if other.shape[1] != len(self.target_mean_):
            raise RowsError(f"{self.name}: rows of {other.shape[1]} numbers, the target's have {len(self.target_mean_)}: give its table")
        other = stepped(other, self.steps, self.target_mean_)
        return np.asarray(other @ self.target_map_ if "target_map" in self.fitted else other)

    def score(self, X: Floats, y: Floats) -> float:
        """Mean cosine of mapped rows with their partners, both in the shared space, in [-1, 1]; rows without a direction count 0."""
        return float((unit_rows(self.transform(X)) * unit_rows(self.transform_target(y))).sum(1).mean())

    def in_one_space(self, source: Floats, target: Floats) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Both whole tables in the shared space as unit rows, (n, e) and (m, e); made block by block."""
        return _unit_blocks(self.transform, source), _unit_blocks(self.transform_target, target)

    def _spaces(self, left: Floats, right: Floats, source: Floats | None, target: Floats | None, pairs: Ids | None) -> Spaces:
        if source is None and target is None and pairs is None:
            source, target, pairs = left, right, np.column_stack([np.arange(len(left))] * 2)
        if source is None or target is None or pairs is None:
            raise RowsError(f"{self.name}: source, target and pairs belong together: give all three, or only X and y")
        pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
        for side, table, rows in ((0, source, left), (1, target, right)):
            if table.ndim != 2 or table.shape[1] != rows.shape[1] or len(pairs) != len(rows):
                raise RowsError(f"{self.name}: tables, pairs and rows do not fit each other: X and y are source[pairs[:, 0]] and so on")
            if not all(np.isfinite(table[block]).all() for block in iterate_blocks(len(table), 1 << 14)):
                raise RowsError(f"{self.name}: a table holds NaN or infinity: repair it")
            if len(pairs) and not 0 <= pairs[:, side].min() <= pairs[:, side].max() < len(table):
                raise RowsError(f"{self.name}: pairs name rows that the tables do not have: they begin at 0")
        self.source_mean_, self.target_mean_ = mean_of(source, self.steps), mean_of(target, self.steps)
        tables = (_step_blocks(source, self.steps, self.source_mean_), _step_blocks(target, self.steps, self.target_mean_))
        return Spaces(*tables, pairs)


def _step_blocks(table: Floats, steps: Steps, mean: Floats) -> Floats:
    out: Floats = np.empty(table.shape, dtype=np.float32 if table.dtype == np.float32 else np.float64)
    for block in iterate_blocks(len(table), 1 << 14):
        out[block] = stepped(table[block].astype(np.float64), steps, mean)
    return out


def _unit_blocks(transform: Any, table: Floats) -> npt.NDArray[np.float32]:
    parts = [unit_float32(transform(table[block])) for block in iterate_blocks(len(table), 1 << 14)]
    return np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float32)
