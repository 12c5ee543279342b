"""The contract of a map between two spaces: an estimator of scikit-learn that is fitted on paired rows.

Enters: `fit(X, y)`, row i of X and of y being the same thing in either space. Leaves: `transform(X)`, rows of X where the other space has
them, and `score(X, y)`. A fitted map is kept as safetensors with a JSON beside it, never as a pickle.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from regraft.errors import InputError, ParameterError, RowsError
from regraft.method import Described, configure

Floats = npt.NDArray[np.floating[Any]]
ABOUT, ARRAYS = "map.json", "map.safetensors"
SCHEMA = 1


class Aligner(Described, TransformerMixin, BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn has no types
    """Base of every map. Its ``__init__`` stores the hyper-parameters as they are given, as scikit-learn asks.

    Class attributes
    ----------------
    fitted : names of the arrays that `fit` sets (without the trailing underscore), in which a fitted map is kept.
    """

    family = "aligner"
    fitted: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def fit(self, X: Floats, y: Floats) -> Self:
        """Learn from paired rows X (n, d) and y (n, e). Raises `ParameterError` for rows that no map can be learned from."""

    @abstractmethod
    def transform(self, X: Floats) -> Floats:
        """Rows X (m, d) in the space of y, shape (m, e)."""

    def score(self, X: Floats, y: Floats) -> float:
        """Mean cosine of mapped rows with their partners, in [-1, 1]; rows without a direction count 0."""
        mapped, other = unit_rows(self.transform(X)), unit_rows(np.asarray(y).reshape(len(y), -1))
        return float((mapped * other).sum(1).mean())

    def pairs(self, X: Any, y: Any) -> tuple[Floats, Floats]:
        """For `fit`: X (n, d) and y (n, e) as float64, checked by scikit-learn. Raises `ParameterError`: NaN, no rows, not in pairs."""
        with one_line(self.name):
            left, right = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        return left, np.asarray(right, dtype=np.float64).reshape(len(left), -1)

    def rows(self, X: Any) -> Floats:
        """For `transform`: X (m, d) as float64. Raises `ParameterError` for NaN or another dimension than `fit` has seen."""
        check_is_fitted(self)
        with one_line(self.name):
            found: Floats = validate_data(self, X, dtype=np.float64, reset=False)
        return found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required, tags.target_tags.multi_output, tags.target_tags.one_d_labels = True, True, False
        return tags

    def save_into(self, folder: Path) -> None:
        """Write the fitted map into `folder`, which is there. Raises scikit-learn's `NotFittedError`."""
        check_is_fitted(self)
        arrays = {name: np.ascontiguousarray(getattr(self, f"{name}_")) for name in self.fitted}
        about = {"schema": SCHEMA, "method": self.name, "parameters": self.get_params(deep=False), "features": self.n_features_in_}
        save_file(arrays, folder / ARRAYS)
        (folder / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")


@contextmanager
def one_line(name: str) -> Iterator[None]:
    """What scikit-learn says of bad rows, in one line that begins with the method's name."""
    try:
        yield
    except ValueError as error:
        raise RowsError(f"{name}: {' '.join(str(error).split())}") from None


def load_map(folder: str | Path) -> Any:
    """The fitted map of a directory that `save_into` wrote. Raises `InputError` where that is not what it is."""
    from regraft.method import resolve

    folder = Path(folder)
    if not (folder / ABOUT).is_file():
        raise InputError(f"{folder}: not a map (it has no {ABOUT}): give a directory that `regraft align fit` wrote")
    try:
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        if about["schema"] != SCHEMA:
            raise InputError(f"{folder / ABOUT}: schema {about['schema']} is not one that this version knows: use a newer regraft")
        found = configure(type(resolve("aligner", about["method"])), about["parameters"])
        arrays = load_file(folder / ARRAYS)
        for name in found.fitted:
            setattr(found, f"{name}_", arrays[name])
        found.n_features_in_ = int(about["features"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, ParameterError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{folder}: not a map, or a damaged one ({said}): give a directory that `regraft align fit` wrote") from None
    return found


def unit_rows(rows: Floats) -> Floats:
    """Rows of length 1; those of length 0 stay."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    out = np.zeros_like(rows, dtype=np.result_type(rows, np.float32))
    found: Floats = np.divide(rows, length, out=out, where=length > 0)
    return found
