"""Tables of words and their vectors, wherever they come from: vector files, arrays, safetensors, a checkpoint's token table.

Enters: a path. Leaves: a `Table` of at most so many first rows, whose words are in composed form and distinct, and which can be found
again.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regraft.align.words.dictionary import composed, is_latin
from regraft.errors import InputError, ParameterError
from regraft.vectors.files import open_vectors
from regraft.vectors.tokens import Vectors, token_text

ROWS = 200_000  # the field's habit: the first 200,000 words, in order of frequency


@dataclass(frozen=True, eq=False)
class Table:
    """Words (n,) and their vectors (n, d), most frequent first; `path`, `limit` and `latin` say how to open it again."""

    words: list[str]
    matrix: npt.NDArray[np.float32]
    path: Path
    limit: int
    latin: bool = True

    @cached_property
    def index(self) -> dict[str, int]:
        """Word -> row."""
        return {word: row for row, word in enumerate(self.words)}

    @cached_property
    def digest(self) -> str:
        return Vectors(self.words, self.matrix, name=str(self.path)).digest()

    def to_dict(self) -> dict[str, Any]:
        """What `reopen` finds it by."""
        rows, dim = self.matrix.shape
        return {"path": str(self.path), "limit": self.limit, "latin": self.latin, "rows": rows, "dim": dim, "digest": self.digest}


def open_table(path: str | Path, limit: int = ROWS, *, latin: bool = True) -> Table:
    """The first `limit` rows of a file of vectors (`open_vectors`; .safetensors too, words beside it), or of a checkpoint's token table.

    Of a checkpoint, special tokens and broken characters are left out, and a token is its text without surrounding space. Of words that are
    the same in composed form the first stays. Without `latin`, words of code points below 256 alone are left out.

    Raises `ParameterError` or `CheckpointError` in one line.
    """
    path = Path(path)
    if limit < 1:
        raise ParameterError(f"{limit} rows of {path}: read at least 1")
    if path.is_dir():
        words, matrix = _token_table(path)
    elif path.suffix == ".safetensors":
        words, matrix = _from_safetensors(path)
    else:
        vectors = open_vectors(path)
        words, matrix = list(vectors.words), vectors.matrix
    first: dict[str, int] = {}
    for row, word in enumerate(words):
        if len(first) == limit:
            break
        word = composed(word)
        if word and (latin or not is_latin(word)):
            first.setdefault(word, row)
    if not first:
        raise ParameterError(f"{path}: no word in it that could be aligned: give another table")
    rows = np.fromiter(first.values(), dtype=np.int64)
    matrix = matrix[: len(rows)] if np.array_equal(rows, np.arange(len(rows))) else matrix[rows]
    kept = Vectors(list(first), np.ascontiguousarray(matrix, dtype=np.float32), name=str(path))  # refuses NaN and zeros alone
    return Table(list(first), kept.matrix, path.expanduser().resolve(), limit, latin)


def reopen(about: dict[str, Any]) -> Table:
    """The table of `Table.to_dict`. Raises `InputError` where it is gone, or no longer what it was."""
    if not Path(about["path"]).exists():
        raise InputError(f"{about['path']}: a table of this map is not there any more: bring it back, or fit the map anew")
    table = open_table(about["path"], about["limit"], latin=about["latin"])
    if table.digest != about["digest"]:
        raise InputError(f"{about['path']}: not the table that the map was learned from: bring that back, or fit the map anew")
    return table


def _token_table(path: Path) -> tuple[list[str], npt.NDArray[np.float32]]:
    from regraft.checkpoint import Checkpoint
    from regraft.tokenizer import Tokenizer

    checkpoint = Checkpoint.open(path, vocabulary=True)
    tokenizer = Tokenizer.from_directory(checkpoint.path)
    table = checkpoint.read(checkpoint.layout.input[0]).float().numpy()
    texts = [token_text(tokenizer, token) for token in range(min(tokenizer.vocab_size, len(table)))]
    return texts, table[: len(texts)]


def _from_safetensors(path: Path) -> tuple[list[str], npt.NDArray[np.float32]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tables = [name for name in file.keys() if len(file.get_slice(name).get_shape()) == 2]  # noqa: SIM118  # no mapping
            if len(tables) != 1:
                found = ", ".join(tables[:5]) or "none"
                raise ParameterError(f"{path}: which table is meant is not clear (2-D tensors: {found}): keep one of them in the file")
            matrix = file.get_tensor(tables[0]).float().numpy()
    except (OSError, SafetensorError) as error:
        raise ParameterError(f"{path}: no safetensors file that can be read ({error}): get it anew") from None
    for place in (path.with_suffix(".txt"), path.with_suffix(".json")):
        if place.is_file():
            words = place.read_text("utf-8").splitlines() if place.suffix == ".txt" else json.loads(place.read_text("utf-8"))
            if len(words) != len(matrix):
                raise ParameterError(f"{place}: {len(words)} words for {len(matrix)} rows of {path.name}: they must be as many")
            return [str(word) for word in words], matrix
    raise ParameterError(f"{path}: no list of its words: put one word a line into {path.with_suffix('.txt').name} beside it")
