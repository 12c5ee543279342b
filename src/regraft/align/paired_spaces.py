"""Two spaces from files, row i of both being the same thing.

Enters: two .npy files of rows in one order, or two files of word vectors, whose shared words are the pairs. Leaves: `PairedSpaces`. No
pickle is ever loaded.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regraft.errors import InputError
from regraft.provenance import sha256

Rows = npt.NDArray[np.floating[Any]]
LEAST = 10
BESIDE = (".json", ".txt", ".parquet")  # where the words of a .npy lie


@dataclass(frozen=True)
class PairedSpaces:
    """Rows (n, d) and (n, e) of the same n things, by `ids`; `words` says whether those are words (first = most frequent) or numbers."""

    files: tuple[Path, Path]
    left: Rows
    right: Rows
    ids: tuple[str, ...]
    words: bool

    @property
    def root(self) -> Path:
        return self.files[0].resolve().parent

    @property
    def id(self) -> str | None:
        return None

    @property
    def revision(self) -> str | None:
        return None

    def source_hash(self) -> str:
        """Hash of both files' contents, in order."""
        return hashlib.sha256("".join(map(sha256, self.files)).encode()).hexdigest()


def open_paired(left: Path, right: Path) -> PairedSpaces:
    """Two spaces with their pairs.

    Raises `InputError` (or `ParameterError` from the vector reader): a file that is missing or damaged, arrays of other shapes, NaN, fewer
    than ten pairs.
    """
    for path in (left, right):
        if not path.is_file():
            raise InputError(f"{path}: {'a directory' if path.is_dir() else 'no such file'}: give a .npy of rows, or word vectors")
    plain = [_is_plain(path) for path in (left, right)]
    if all(plain):
        one, other = _array(left), _array(right)
        if len(one) != len(other):
            raise InputError(f"{left} has {len(one)} rows and {right} {len(other)}: row i of both must be the same thing")
        ids, words = tuple(map(str, range(len(one)))), False
    elif any(plain):
        bare = left if plain[0] else right
        raise InputError(f"{bare}: an array without words beside a file of words: put its words in {bare.stem}.json, one a row")
    else:
        from regraft.vectors.files import open_vectors

        first, second = open_vectors(left), open_vectors(right)
        shared = [word for word in dict.fromkeys(first.words) if word in second.index]
        one = first.matrix[[first.index[word] for word in shared]]
        other = second.matrix[[second.index[word] for word in shared]]
        ids, words = tuple(shared), True
    if len(ids) < LEAST:
        raise InputError(f"{left} and {right}: {len(ids)} {'shared words' if words else 'rows'}: at least {LEAST} pairs are needed")
    return PairedSpaces((left, right), one, other, ids, words)


def _is_plain(path: Path) -> bool:
    """A .npy without words beside it."""
    return path.suffix == ".npy" and not any(path.with_suffix(ending).is_file() for ending in BESIDE)


def _array(path: Path) -> Rows:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: not a plain NumPy array ({' '.join(str(error).split())}): save it with numpy.save") from None
    if not isinstance(found, np.ndarray):
        raise InputError(f"{path}: holds several arrays (.npz): save the one that is meant with numpy.save")
    if found.ndim != 2 or found.dtype.kind != "f" or not found.size:
        raise InputError(f"{path}: shape {found.shape} of {found.dtype}: give floating-point rows (n, d)")
    if not np.isfinite(found).all():
        row = int(np.flatnonzero(~np.isfinite(found).all(1))[0])
        raise InputError(f"{path}: row {row} holds NaN or infinity: remove or repair it in both files")
    return found
