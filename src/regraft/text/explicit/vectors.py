"""What is done with vectors of named concepts (n, K): contributions to a cosine, known concepts put in, few units kept, search.

Zero vectors have similarity 0 with anything.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csc_array, csr_array

from regraft.errors import ParameterError
from regraft.text.tasks.task import unit

Floats = npt.NDArray[np.float64]
Known = Literal["max", "alone"]
Fields = Literal["add", "max"]


def contributions(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Floats:
    r""":math:`s_{a,k} s_{b,k} / (|s_a| |s_b|)` of each concept, (n, K); a row sums to the cosine."""
    return np.asarray(unit(np.atleast_2d(a)) * unit(np.atleast_2d(b)))


def combined(vectors: npt.NDArray[Any], how: Fields = "max") -> npt.NDArray[Any]:
    """One vector (K,) of an object of several text fields (fields, K): their sum or their maximum (INFERRED)."""
    return np.asarray(vectors.sum(0) if how == "add" else vectors.max(0))


def with_known(vectors: npt.NDArray[Any], known: npt.NDArray[Any], how: Known = "max") -> npt.NDArray[Any]:
    """Vectors of objects of which concepts are `known` (n, K; 0 or 1): the larger of both; or, where any is known, those (INFERRED)."""
    if how == "max":
        return np.asarray(np.maximum(vectors, known))
    return np.where(known.any(1, keepdims=True), known, vectors)


def sparse(vectors: npt.NDArray[Any], top: int) -> csr_array:
    """The `top` largest positive units of each row at their share of the whole row's length: (n, K) in n * top numbers.

    For vectors without negative units a dot product of two such rows is a lower bound of the cosine of the whole ones.
    """
    if top < 1:
        raise ParameterError(f"top {top}: at least 1 unit is kept")
    rows = unit(np.asarray(vectors))
    top = min(top, rows.shape[1])
    columns = np.argpartition(-rows, top - 1, axis=1)[:, :top]
    values = np.take_along_axis(rows, columns, 1)
    found = csr_array((values.ravel(), columns.ravel(), np.arange(0, rows.shape[0] * top + 1, top)), shape=rows.shape)
    found.data[found.data < 0] = 0
    found.eliminate_zeros()
    found.sort_indices()
    return found


@dataclass(frozen=True)
class Index:
    """An inverted index: of each concept the objects that have it. `postings` (objects, K), by column."""

    postings: csc_array

    @classmethod
    def of(cls, rows: csr_array) -> "Index":
        return cls(csc_array(rows))

    def search(self, queries: csr_array, top: int = 10, *, block: int = 256) -> list[list[tuple[int, float]]]:
        """(object, score) of the best `top` objects of each query (q, K), those alone that share a concept with it; best first."""
        found: list[list[tuple[int, float]]] = []
        by_concept = csr_array(self.postings.T)
        for start in range(0, queries.shape[0], block):
            scores = csr_array(queries[start : start + block] @ by_concept)
            for begin, end in zip(scores.indptr[:-1], scores.indptr[1:], strict=True):
                values, objects = scores.data[begin:end], scores.indices[begin:end]
                order = np.lexsort((objects, -values))[:top]
                found.append([(int(objects[at]), float(values[at])) for at in order])
        return found


def known_row(names: Sequence[str], given: Sequence[str]) -> npt.NDArray[np.float32]:
    """1 for each concept `given` by name, (K,). Raises `ParameterError` for a name that is no dimension."""
    at = {name: column for column, name in enumerate(names)}
    row = np.zeros(len(names), np.float32)
    for name in given:
        if name not in at:
            near = difflib.get_close_matches(name, names, n=3) or list(names[:3])
            raise ParameterError(f"concept '{name}' is no dimension of this model: did you mean {' or '.join(near)}?")
        row[at[name]] = 1
    return row
