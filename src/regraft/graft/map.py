"""A graft: the readable map from learned rows to new ones.

Enters: for each new row, weights over the old rows. Leaves: new rows for any table that shares the old indexing (input rows, head rows,
biases), an explanation of each row, and a certificate that says whether the rows lie in the convex hull of the old ones.

The map is ``W = S + share * shared^T``: a sparse matrix ``S`` plus one dense weight vector that many rows may share (the mean of a table
has a weight on every old row; stored row by row it would be V x V).
"""

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse

from regraft.errors import CheckpointError

Origin = Literal["copied", "combined", "sampled", "learned"]
ORIGINS: tuple[Origin, ...] = ("copied", "combined", "sampled", "learned")
HULL_TOLERANCE = 1e-9  # weights are float64: sums closer to 1 than this are 1


@dataclass(frozen=True)
class HullCertificate:
    """Which rows are provably convex combinations of old rows.

    `inside` is a share in [0, 1]; `slack` the worst violation over all rows: the largest of ``|sum - 1|`` and of ``-min(weight)``, in
    weight units, and of an output bias above the mix of the old ones. A row inside the hull can never outrank every old row, so greedy
    decoding of text that has no new token stays as it was.
    """

    inside: float
    slack: float
    rows: int


@dataclass(frozen=True)
class Graft:
    """Weights ``W`` of shape (new rows, old rows), float64.

    Parameters
    ----------
    weights : CSR matrix ``S``, shape (new, old).
    shared : dense weight vector of shape (old,) that rows may share, or None.
    share : how much of `shared` each row takes, shape (new,), or None.
    fallback : indices of rows that had no source of their own (no spelling, only unknown pieces) and took `shared` instead.
    """

    weights: sparse.csr_matrix
    shared: npt.NDArray[np.float64] | None = None
    share: npt.NDArray[np.float64] | None = None
    fallback: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def shape(self) -> tuple[int, int]:
        return (int(self.weights.shape[0]), int(self.weights.shape[1]))

    @classmethod
    def from_ragged(
        cls, pieces: Sequence[Sequence[int]], columns: int, weights: Sequence[Sequence[float]] | None = None, normalize: bool = True
    ) -> "Graft":
        """Row i has `weights[i]` (default: equal) on the columns `pieces[i]`; repeated columns add up. Rows without pieces fall back.

        With `normalize`, each row is divided by its sum. A row with no pieces takes the mean of all old rows.
        """
        lengths = np.fromiter((len(p) for p in pieces), dtype=np.int64, count=len(pieces))
        columns_flat = np.fromiter((c for p in pieces for c in p), dtype=np.int64, count=int(lengths.sum()))
        rows_flat = np.repeat(np.arange(len(pieces)), lengths)
        if weights is None:
            values = np.ones(len(columns_flat))
        else:
            values = np.fromiter((w for row in weights for w in row), dtype=np.float64, count=len(columns_flat))
        matrix = sparse.coo_matrix((values, (rows_flat, columns_flat)), shape=(len(pieces), columns)).tocsr()
        if normalize:  # after equal columns are added up: a piece repeated k times weighs exactly 1, not k times 1/k rounded
            matrix.data /= np.asarray(matrix.sum(axis=1)).ravel()[np.repeat(np.arange(len(pieces)), np.diff(matrix.indptr))]
        return cls(matrix).with_mean_for(np.flatnonzero(lengths == 0))

    @classmethod
    def uniform(cls, pieces: Sequence[Sequence[int]], columns: int) -> "Graft":
        """Equal weights on the pieces of each row."""
        return cls.from_ragged(pieces, columns)

    @classmethod
    def mean(cls, rows: int, columns: int) -> "Graft":
        """Every new row is the mean of all old rows."""
        return cls(sparse.csr_matrix((rows, columns)), np.full(columns, 1.0 / columns), np.ones(rows))

    @classmethod
    def copy_of(cls, source_ids: npt.NDArray[np.int64], columns: int) -> "Graft":
        """Row i copies old row `source_ids[i]`."""
        count = len(source_ids)
        return cls(sparse.csr_matrix((np.ones(count), source_ids, np.arange(count + 1)), shape=(count, columns)))

    def with_mean_for(self, rows: npt.NDArray[np.int64]) -> "Graft":
        """The same graft in which `rows` take the mean of all old rows, and are listed in `fallback`."""
        if len(rows) == 0:
            return self
        if self.shared is not None and not np.ptp(self.shared) == 0:
            raise ValueError("the rows of this graft share other weights than the mean")
        new, old = self.shape
        share = np.zeros(new) if self.share is None else self.share.copy()
        share[rows] = 1.0
        keep = np.ones(new)
        keep[rows] = 0.0
        shared = np.full(old, 1.0 / old) if self.shared is None else self.shared
        return Graft(sparse.diags(keep) @ self.weights, shared, share, np.union1d(self.fallback, rows).astype(np.int64))

    def apply(self, table: torch.Tensor, block: int = 4096) -> torch.Tensor:
        """New rows of `table`.

        Parameters
        ----------
        table : shape (old, d), or (old,) for a bias; any float dtype. Rows past `old` columns (padding) are ignored.

        Returns a tensor of shape (new, d) or (new,) in the table's dtype. Sums run in float64 where the weights mix rows and rows are
        copied bit for bit where a single weight is 1; only the old rows that a block mentions are upcast.
        """
        new, old = self.shape
        flat = table[:old].unsqueeze(1) if table.ndim == 1 else table[:old]
        out = torch.empty((new, flat.shape[1]), dtype=table.dtype)
        common = self._shared_row(flat)
        for start in range(0, new, block):
            rows = self.weights[start : start + block]
            used, local = np.unique(rows.indices, return_inverse=True)
            dense = flat[torch.from_numpy(used.astype(np.int64))].to(torch.float64).numpy()
            mixed = sparse.csr_matrix((rows.data, local, rows.indptr), shape=(rows.shape[0], len(used))) @ dense
            if common is not None and self.share is not None:
                mixed = mixed + np.outer(self.share[start : start + block], common)
            out[start : start + block] = torch.from_numpy(mixed).to(table.dtype)
        copied = self.copied()  # a sum would lose the sign of a zero
        out[torch.from_numpy(copied)] = flat[torch.from_numpy(self.weights.indices[self.weights.indptr[:-1][copied]].astype(np.int64))]
        return out[:, 0] if table.ndim == 1 else out

    def averaging(self) -> "Graft":
        """The same mixture with rows that sum to 1, for a bias: rows without negative weights are divided by their sum."""
        sums = np.asarray(self.weights.sum(axis=1)).ravel()
        if self.share is not None and self.shared is not None:
            sums = sums + self.share * self.shared.sum()
        lows = np.asarray(self.weights.min(axis=1).todense()).ravel()
        scale = np.where((lows >= 0) & (sums > 0) & (np.abs(sums - 1) > HULL_TOLERANCE), 1 / np.where(sums > 0, sums, 1), 1.0)
        share = None if self.share is None else self.share * scale
        return Graft(sparse.csr_matrix(sparse.diags(scale) @ self.weights), self.shared, share, self.fallback)

    def _shared_row(self, flat: torch.Tensor, block: int = 8192) -> npt.NDArray[np.float64] | None:
        if self.shared is None:
            return None
        weights = torch.from_numpy(self.shared)
        total = torch.zeros(flat.shape[1], dtype=torch.float64)
        for start in range(0, flat.shape[0], block):
            total += weights[start : start + block] @ flat[start : start + block].to(torch.float64)
        return np.asarray(total.numpy())

    def explain(self, row: int, top: int = 8) -> list[tuple[int, float]]:
        """The old rows that make new row `row`: (old index, weight), largest weight first."""
        line = self.weights[row]
        dense_share = 0.0 if self.share is None else float(self.share[row])
        pairs = dict(zip(line.indices.tolist(), line.data.tolist(), strict=True))
        if dense_share and self.shared is not None:
            for column in np.argsort(-self.shared)[:top].tolist():
                pairs[column] = pairs.get(column, 0.0) + dense_share * float(self.shared[column])
        return sorted(pairs.items(), key=lambda pair: -abs(pair[1]))[:top]

    def copied(self) -> npt.NDArray[np.bool_]:
        """Which rows are one old row and nothing else. Shape (new,)."""
        single: npt.NDArray[np.bool_] = np.diff(self.weights.indptr) == 1
        single[single] = self.weights.data[self.weights.indptr[:-1][single]] == 1.0
        return single if self.share is None else single & (self.share == 0)

    def row_slack(self) -> npt.NDArray[np.float64]:
        """How far each row is from being a convex combination, in weight units; 0 is inside. Shape (new,)."""
        sums = np.asarray(self.weights.sum(axis=1)).ravel()
        lows = np.asarray(self.weights.min(axis=1).todense()).ravel()
        if self.share is not None and self.shared is not None:
            sums = sums + self.share * self.shared.sum()
            lows = np.minimum(lows, self.share * self.shared.min())
        return np.asarray(np.maximum(np.abs(sums - 1.0), np.maximum(-lows, 0.0)), dtype=np.float64)

    def certificate(self, excess: npt.NDArray[np.float64] | None = None) -> HullCertificate:
        """Which rows lie in the convex hull of the old rows, by their weights.

        `excess` (new,) is what each row's output bias has above the same mix of old biases: any takes the row out.
        """
        slack = self.row_slack()
        if len(slack) == 0:
            return HullCertificate(1.0, 0.0, 0)
        if excess is not None:
            slack = np.maximum(slack, excess)
        return HullCertificate(float((slack <= HULL_TOLERANCE).mean()), float(slack.max()), len(slack))

    def save(self, path: Path) -> None:
        """Write the map as a pickle-free `.npz`."""
        shared = np.zeros(0) if self.shared is None else self.shared
        share = np.zeros(0) if self.share is None else self.share
        with path.open("wb") as file:
            np.savez_compressed(
                file,
                indptr=self.weights.indptr,
                indices=self.weights.indices,
                data=self.weights.data,
                shape=np.array(self.shape),
                shared=shared,
                share=share,
                fallback=self.fallback,
            )

    @classmethod
    def load(cls, path: Path) -> "Graft":
        """Read what `save` wrote. Raises `CheckpointError` if it is not a graft, or damaged."""
        try:
            with np.load(path, allow_pickle=False) as data:
                arrays = {name: data[name] for name in ("data", "indices", "indptr", "shape", "shared", "share", "fallback")}
            matrix = sparse.csr_matrix((arrays["data"], arrays["indices"], arrays["indptr"]), shape=tuple(arrays["shape"]))
            matrix.check_format(full_check=True)
            _check_arrays(arrays)
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
            raise CheckpointError(f"{path}: not a saved graft, or damaged ({error}): make the checkpoint again") from None
        shared, share = arrays["shared"], arrays["share"]
        return cls(matrix, shared if len(shared) else None, share if len(share) else None, arrays["fallback"])


def _check_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raise `ValueError` unless the arrays of a saved graft fit each other."""
    new, old = arrays["shape"]
    for name in ("data", "shared", "share"):
        if arrays[name].dtype != np.float64 or not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} does not hold finite float64 numbers")
    if (arrays["shared"].shape, arrays["share"].shape) not in (((0,), (0,)), ((old,), (new,))):
        raise ValueError("shared weights do not fit the shape")
    fallback = arrays["fallback"]
    if fallback.ndim != 1 or fallback.dtype != np.int64 or ((fallback < 0) | (fallback >= new)).any():
        raise ValueError("fallback rows do not exist")


@dataclass(frozen=True)
class Rows:
    """New rows that are not a linear map of old ones.

    Attributes
    ----------
    values : (new, d) the rows.
    bias : (new,) output bias of the new tokens, or None.
    origin : "sampled", "learned" from text or a donor, or "combined": mixed, but without weights to show.
    combined : places among the new rows that are mixed from old ones, whatever `origin` says of the others.
    layers : parameters of the model that were trained together with the rows, by their names in the loaded model.
    beside : the map by which further tensors over the vocabulary (of each layer, say) get their rows, or None: no map stands behind them.
    replaced, replacements : ids (r,) of the new tokenizer whose old rows the user asked to learn anew, and their rows (r, d).
    """

    values: torch.Tensor
    bias: torch.Tensor | None = None
    origin: Literal["sampled", "learned", "combined"] = "sampled"
    combined: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    layers: Mapping[str, torch.Tensor] = field(default_factory=dict)
    replaced: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    replacements: torch.Tensor | None = None
    beside: "Graft | None" = None


def iterate_blocks(count: int, block: int) -> Iterator[slice]:
    """Slices that cover range(count)."""
    for start in range(0, count, block):
        yield slice(start, min(start + block, count))
