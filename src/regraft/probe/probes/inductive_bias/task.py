"""A task as arrays: rows and targets to learn from, and others to be measured on.

Enters: anything that becomes arrays. Leaves: finite float64 with one row a point, class names as one-hot columns of 0 and 1.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from regraft.errors import RowsError

Floats = npt.NDArray[np.float64]
MOST_TEST = 10_000  # the covariance of predictions is test rows by test rows


@dataclass(frozen=True)
class Task:
    """X (n, d), Y (n, k) to learn from and to test on; `classes` are the names of Y's columns, None for numbers."""

    X_train: Floats
    Y_train: Floats
    X_test: Floats
    Y_test: Floats
    classes: tuple[str, ...] | None = None
    name: str = "task"
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, X_train: Any, Y_train: Any, X_test: Any, Y_test: Any, *, kind: str = "auto", name: str = "task") -> "Task":
        """Checked. Targets (n,) of words or whole numbers are classes, unless `kind` is "numbers"; (n, k) are taken as they are.

        Raises `RowsError`: NaN, other widths or lengths, fewer than two training rows, one class, rows that are all equal.
        """
        X, T = (_rows(given, f"{name}, {what} rows") for given, what in ((X_train, "training"), (X_test, "test")))
        if X.shape[1] != T.shape[1]:
            raise RowsError(f"{name}: training rows have {X.shape[1]} columns, test rows {T.shape[1]}: give both the same")
        if len(X) < 2:
            raise RowsError(f"{name}: {len(X)} training row: give at least two")
        if len(T) > MOST_TEST:
            raise RowsError(f"{name}: {len(T):,} test rows: give at most {MOST_TEST:,} (their covariance is held whole)")
        given, others = (np.asarray(one) for one in (Y_train, Y_test))
        for rows, targets, what in ((X, given, "training"), (T, others, "test")):
            if targets.ndim not in (1, 2) or len(targets) != len(rows):
                raise RowsError(f"{name}: {len(rows)} {what} rows and targets of shape {targets.shape}: give one a row")
        names: tuple[str, ...] | None = None
        if given.ndim == 1 and (kind == "classes" or (kind == "auto" and given.dtype.kind in "iubUSO")):
            names = tuple(sorted({*map(str, given), *map(str, others)}, key=_order))
            if len(names) < 2:
                raise RowsError(f"{name}: all targets are of one class ('{names[0]}'): give rows of two or more")
            Y, U = (_one_hot(one, names) for one in (given, others))
        else:
            Y, U = (
                _rows(one if one.ndim == 2 else one[:, None], f"{name}, {what} targets")
                for one, what in ((given, "training"), (others, "test"))
            )
            if Y.shape[1] != U.shape[1]:
                raise RowsError(f"{name}: training targets have {Y.shape[1]} columns, test targets {U.shape[1]}: give both the same")
            if not np.ptp(Y, axis=0).any():
                raise RowsError(f"{name}: all training targets are equal: there is nothing to learn")
        still = ~np.ptp(X, axis=0).astype(bool)
        if still.all():
            raise RowsError(f"{name}: all training rows are equal: there is nothing to learn from")
        notes = (f"{int(still.sum())} of {len(still)} columns are constant over the training rows",) if still.any() else ()
        return cls(X, Y, T, U, names, name, notes)

    @property
    def n(self) -> int:
        return len(self.X_train)

    def first(self, n: int) -> "Task":
        """Learning from the first n rows only."""
        return replace(self, X_train=self.X_train[:n], Y_train=self.Y_train[:n])

    def digest(self) -> str:
        """An id of all four arrays."""
        found = hashlib.sha256()
        for part in (self.X_train, self.Y_train, self.X_test, self.Y_test):
            found.update(f"{part.shape}".encode() + np.ascontiguousarray(part).tobytes())
        return found.hexdigest()


def standardized(task: Task) -> Task:
    """Columns of X less their mean, by their deviation over the training rows; constant ones become 0."""
    mean, spread = task.X_train.mean(0), task.X_train.std(0)
    spread[spread <= 1e-12 * np.abs(mean)] = np.inf
    return replace(task, X_train=(task.X_train - mean) / spread, X_test=(task.X_test - mean) / spread)


def standardized_targets(task: Task) -> Task:
    """Numbers to predict less their mean, by their deviation over the training rows: a hypothesis space has variance 1."""
    mean, spread = task.Y_train.mean(0), task.Y_train.std(0)
    spread[spread == 0] = 1.0
    return replace(task, Y_train=(task.Y_train - mean) / spread, Y_test=(task.Y_test - mean) / spread)


def _rows(given: Any, what: str) -> Floats:
    try:
        found = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise RowsError(f"{what}: not numbers: give an array of shape (rows, columns)") from None
    if found.ndim != 2 or not found.size:
        raise RowsError(f"{what}: of shape {found.shape}: give numbers of shape (rows, columns), at least one of each")
    bad = ~np.isfinite(found).all(1)
    if bad.any():
        raise RowsError(
            f"{what}: row {int(np.argmax(bad))} holds NaN or infinity ({int(bad.sum())} such rows): leave them out or fill them"
        )
    return np.ascontiguousarray(found)


def _one_hot(labels: npt.NDArray[Any], names: tuple[str, ...]) -> Floats:
    index = {name: number for number, name in enumerate(names)}
    return np.eye(len(names))[[index[str(one)] for one in labels]]


def _order(name: str) -> tuple[int, float, str]:
    try:
        return (0, float(name), name)
    except ValueError:
        return (1, 0.0, name)
