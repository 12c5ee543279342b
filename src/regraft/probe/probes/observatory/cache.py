"""Vectors of tables on disk: kept by the encoder, the level, and the content of the table in the order that was shown.

That order is part of the key, so every permutation and every sample has its own entry, whichever run made it.
"""

import hashlib
import sqlite3
from pathlib import Path

import numpy as np
import numpy.typing as npt

from regraft.errors import OutputError

Floats = npt.NDArray[np.float32]
FILE = "table-vectors.sqlite"


class Cache:
    """A file of float32 arrays by key. Raises `OutputError` if the folder cannot be written or the file is no cache."""

    def __init__(self, folder: str | Path) -> None:
        path = Path(folder).expanduser() / FILE
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("CREATE TABLE IF NOT EXISTS vectors (key TEXT PRIMARY KEY, shape TEXT, data BLOB) WITHOUT ROWID")
        except (OSError, sqlite3.Error) as error:
            raise OutputError(f"{path}: can't be used to keep vectors ({error}): choose another folder with --cache") from None

    def get(self, key: str) -> Floats | None:
        found = self._file.execute("SELECT shape, data FROM vectors WHERE key = ?", (key,)).fetchone()
        if found is None:
            return None
        shape = tuple(int(n) for n in found[0].split(","))
        return np.frombuffer(found[1], dtype="<f4").reshape(shape)

    def put(self, entries: dict[str, Floats]) -> None:
        """All of them or none."""
        rows = [(key, ",".join(map(str, a.shape)), np.ascontiguousarray(a, dtype="<f4").tobytes()) for key, a in entries.items()]
        self._file.execute("BEGIN IMMEDIATE")
        self._file.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
        self._file.execute("COMMIT")

    def close(self) -> None:
        self._file.close()


def key_of(encoder: str, level: str, digest: str) -> str:
    return hashlib.sha256(f"{encoder}\n{level}\n{digest}".encode()).hexdigest()
