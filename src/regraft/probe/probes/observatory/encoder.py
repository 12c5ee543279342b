"""What turns tables into vectors: any `transformers` checkpoint, a table of static vectors, or a function.

Enters: tables. Leaves: one array a table, in float64: columns (c, d), rows (r, d), cells (r + 1, c, d) with the header first, table (1, d).
A vector that cannot be (of an empty cell) is NaN.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from regraft.checkpoint import Checkpoint
from regraft.errors import ParameterError
from regraft.language.hidden_states import hidden_states
from regraft.language.loading import load_model
from regraft.language.model import inference, max_tokens
from regraft.probe.probes.observatory.cache import Cache, key_of
from regraft.probe.probes.observatory.serialise import LEVELS, SCHEME, Level, Serialised, Serialiser
from regraft.probe.probes.observatory.tables import Table
from regraft.tokenizer import Tokenizer
from regraft.tokenizer.as_transformers import load_tokenizer

Floats = npt.NDArray[np.float64]
MAX_TOKENS = 512
BLOCK = 256  # tables whose vectors are held before they go to the cache


class Encoder(Protocol):
    """What a property asks of an encoder.

    Attributes
    ----------
    name : for people. levels : that it has. notes : what a reader of its figures should know.
    """

    name: str
    levels: tuple[Level, ...]

    @property
    def notes(self) -> tuple[str, ...]: ...

    def fit_rows(self, table: Table, level: Level) -> int:
        """How many leading rows of the table can be encoded at once."""
        ...

    def embed(self, tables: Sequence[Table], level: Level) -> list[Floats]:
        """Vectors of each table, none of which is larger than what fits."""
        ...

    def shorten(self, texts: Sequence[str], tokens: int) -> list[str]:
        """Each text up to its first `tokens` tokens."""
        ...


class ModelEncoder:
    """A checkpoint's last hidden states: at the CLS before a column or row, or the mean over its tokens where there is no CLS.

    An encoder-decoder is given the encoder's ids as those of the decoder too, and the decoder's last state is taken. The model is loaded
    when it is first needed.
    """

    levels = LEVELS

    def __init__(
        self,
        source: str | Checkpoint,
        *,
        name: str | None = None,
        limit: int = MAX_TOKENS,
        device: str = "cpu",
        dtype: str = "auto",
        cache: Cache | None = None,
    ) -> None:
        from transformers import AutoConfig

        self.checkpoint = source if isinstance(source, Checkpoint) else Checkpoint.open(source)
        self.name = name or self.checkpoint.id or self.checkpoint.path.name
        self.device, self.dtype, self.cache = device, dtype, cache
        tokenizer = load_tokenizer(Tokenizer.from_directory(self.checkpoint.path))
        self.limit = min(limit, max_tokens(AutoConfig.from_pretrained(self.checkpoint.path), tokenizer))
        self.serialiser = Serialiser(tokenizer, self.limit)
        self.cut = 0
        self.encoded = 0

    @property
    def notes(self) -> tuple[str, ...]:
        notes = []
        if self.serialiser.marker is None:
            notes.append("has no CLS token: a column's or row's vector is the mean over its tokens")
        if self.checkpoint.config.get("is_encoder_decoder"):
            notes.append("is an encoder-decoder: states are those of the decoder, which reads the table too")
        if self.cut:
            notes.append(f"{self.cut} reordered tables took more tokens than the original and lost the last of their longest parts")
        return tuple(notes)

    @cached_property
    def model(self) -> Any:
        return load_model(self.checkpoint, self.dtype, self.device)

    @cached_property
    def identity(self) -> str:
        """What the cache keeps its vectors by."""
        return f"{self.checkpoint.source_hash()} {self.limit} {self.dtype} scheme {SCHEME}"

    def release(self) -> None:
        """Let go of the model's weights."""
        self.__dict__.pop("model", None)

    def static(self) -> "StaticEncoder":
        """The mean of the model's own input rows: a baseline that knows no order."""
        name = self.checkpoint.layout.input[0]
        table = self.checkpoint.read(name).float().numpy()
        return StaticEncoder(self.serialiser, table, name=f"static rows of {self.name}")

    def fit_rows(self, table: Table, level: Level) -> int:
        return self.serialiser.fit_rows(table, level)

    def shorten(self, texts: Sequence[str], tokens: int) -> list[str]:
        return self.serialiser.shorten(texts, tokens)

    def embed(self, tables: Sequence[Table], level: Level) -> list[Floats]:
        return [found for start in range(0, len(tables), BLOCK) for found in self._block(tables[start : start + BLOCK], level)]

    def _block(self, tables: Sequence[Table], level: Level) -> list[Floats]:
        keys = [table.digest if self.cache is None else key_of(self.identity, level, table.digest) for table in tables]
        known: dict[str, npt.NDArray[np.float32]] = {}
        if self.cache is not None:
            known = {key: found for key in dict.fromkeys(keys) if (found := self.cache.get(key)) is not None}
        wanted = {key: table for key, table in zip(keys, tables, strict=True) if key not in known}
        fresh = dict(zip(wanted, self._encode(list(wanted.values()), level), strict=True))
        if self.cache is not None and fresh:
            self.cache.put(fresh)
        known |= fresh
        return [known[key].astype(np.float64) for key in keys]

    def _encode(self, tables: list[Table], level: Level) -> list[npt.NDArray[np.float32]]:
        texts = [self.serialiser.serialise(table, level) for table in tables]
        self.cut += sum(bool(text.cut) for text in texts)
        self.encoded += len(texts)
        found: list[Any] = [None] * len(texts)
        for number, states in self._states([text.ids for text in texts]):
            found[number] = pooled(states.numpy(), texts[number], level, tables[number])
        return found

    def _states(self, sequences: list[list[int]]) -> Any:
        """Last hidden states (length, K) by number of sequence."""
        if not sequences:
            return
        if not self.checkpoint.config.get("is_encoder_decoder"):
            yield from ((number, states[0]) for number, states in hidden_states(self.model, sequences))
            return
        with inference(self.model):
            for number, ids in enumerate(sequences):
                given = torch.tensor([ids], device=self.device)
                output = self.model(input_ids=given, decoder_input_ids=given, output_hidden_states=True)
                yield number, output.decoder_hidden_states[-1][0].float().cpu()


def pooled(states: npt.NDArray[np.float32], text: Serialised, level: Level, table: Table) -> npt.NDArray[np.float32]:
    """Hidden states (length, K) as the vectors of one level."""
    if level == "cell":
        found = np.full((len(table) + 1, table.width, states.shape[1]), np.nan, dtype=np.float32)
        for column, ((start, stop), cells) in enumerate(zip(text.spans, text.cells, strict=True)):
            for cell in np.unique(cells[cells >= 0]):
                found[cell, column] = states[start:stop][cells == cell].mean(0)
        return found
    if text.markers:
        return np.asarray(states[text.markers])
    spans = text.spans
    if level == "table":
        places = [np.arange(*span) for span in spans]
        return _mean(states[np.concatenate(places)] if places else states[:0])[None]
    return np.stack([_mean(states[start:stop]) for start, stop in spans])


def _mean(states: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(states.mean(0) if len(states) else np.full(states.shape[1], np.nan, dtype=np.float32))


class StaticEncoder:
    """The mean of static vectors over a column's, row's, cell's or table's tokens. It knows nothing of order, exactly.

    Parameters
    ----------
    ids_of : ids of texts: a `Serialiser` (of a tokenizer), or any function from texts to lists of rows. table : (rows, d).
    """

    levels = LEVELS
    notes: tuple[str, ...] = ("the mean of static token vectors: it does not see the order of rows or columns, nor the table around",)

    def __init__(
        self, ids_of: Serialiser | Callable[[Sequence[str]], list[list[int]]], table: npt.NDArray[np.floating], *, name: str = "static"
    ) -> None:
        self.name, self.table = name, np.asarray(table, dtype=np.float64)
        self.serialiser = ids_of if isinstance(ids_of, Serialiser) else None
        self._ids_of = _token_ids(ids_of) if isinstance(ids_of, Serialiser) else ids_of
        self._known: dict[str, list[int]] = {"": []}

    @classmethod
    def of_vectors(cls, vectors: Any, *, name: str | None = None) -> "StaticEncoder":
        """Word vectors (`regraft.vectors.files.open_vectors`): the words of a cell, as they are or in lower case."""
        index = vectors.index

        def ids_of(texts: Sequence[str]) -> list[list[int]]:
            import regex

            words = (regex.findall(r"\w+", text) for text in texts)
            return [[index[w] if w in index else index[w.lower()] for w in found if w in index or w.lower() in index] for found in words]

        return cls(ids_of, vectors.matrix, name=name or vectors.name)

    def fit_rows(self, table: Table, level: Level) -> int:
        return len(table)

    def shorten(self, texts: Sequence[str], tokens: int) -> list[str]:
        if self.serialiser is not None:
            return self.serialiser.shorten(texts, tokens)
        return [" ".join(text.split()[:tokens]) for text in texts]

    def embed(self, tables: Sequence[Table], level: Level) -> list[Floats]:
        self._learn({cell for table in tables for line in (table.header, *table.rows) for cell in line})
        return [self._of(table, level) for table in tables]

    def _learn(self, texts: set[str]) -> None:
        new = sorted(texts - self._known.keys())
        self._known |= dict(zip(new, self._ids_of(new) if new else [], strict=True))

    def _of(self, table: Table, level: Level) -> Floats:
        if level == "cell":
            return np.stack([np.stack([self._mean([cell]) for cell in line]) for line in (table.header, *table.rows)])
        if level == "column":
            return np.stack([self._mean([name, *cells]) for name, cells in zip(table.header, table.columns, strict=True)])
        if level == "row":
            return np.stack([self._mean([*table.header, *row]) for row in table.rows])
        return self._mean([*table.header, *(cell for row in table.rows for cell in row)])[None]

    def _mean(self, cells: Sequence[str]) -> Floats:
        """Over ids in ascending order, so that the order of cells cannot change even the last bit."""
        ids, counts = np.unique(np.array([i for cell in cells for i in self._known[cell]], dtype=np.int64), return_counts=True)
        if not len(ids):
            return np.full(self.table.shape[1], np.nan)
        return np.asarray((counts[:, None] * self.table[ids]).sum(0) / counts.sum())


def _token_ids(serialiser: Serialiser) -> Callable[[Sequence[str]], list[list[int]]]:
    tokenizer = serialiser.tokenizer
    spaced = len(tokenizer(" a", add_special_tokens=False)["input_ids"]) == 1  # a byte-level vocabulary knows words by the space before
    space = " " if spaced else ""

    def ids_of(texts: Sequence[str]) -> list[list[int]]:
        encoded = tokenizer([space + text for text in texts], add_special_tokens=False, split_special_tokens=True, verbose=False)
        return [list(ids) for ids in encoded["input_ids"]]

    return ids_of


class FunctionEncoder:
    """Functions of one table, by level: ``FunctionEncoder({"column": f})`` where f gives an array (columns, d).

    `most_rows` : how many rows they can take at once. Raises `ParameterError` where a function gives another shape.
    """

    def __init__(
        self,
        functions: Mapping[Level, Callable[[Table], npt.ArrayLike]] | Callable[[Table], npt.ArrayLike],
        *,
        name: str = "function",
        most_rows: int | None = None,
    ) -> None:
        self.functions = functions if isinstance(functions, Mapping) else {"column": functions}
        self.name, self.most_rows = name, most_rows
        self.levels: tuple[Level, ...] = tuple(level for level in LEVELS if level in self.functions)
        self.notes: tuple[str, ...] = ()

    def fit_rows(self, table: Table, level: Level) -> int:
        return len(table) if self.most_rows is None else min(self.most_rows, len(table))

    def shorten(self, texts: Sequence[str], tokens: int) -> list[str]:
        return [" ".join(text.split()[:tokens]) for text in texts]

    def embed(self, tables: Sequence[Table], level: Level) -> list[Floats]:
        if level not in self.functions:
            raise ParameterError(f"{self.name}: gives no vectors of level {level}: it has {', '.join(self.levels)}")
        return [self._checked(np.asarray(self.functions[level](table), dtype=np.float64), table, level) for table in tables]

    def _checked(self, found: Floats, table: Table, level: Level) -> Floats:
        wanted = {"column": (table.width,), "row": (len(table),), "cell": (len(table) + 1, table.width), "table": (1,)}[level]
        if found.shape[:-1] != wanted or found.ndim != len(wanted) + 1:
            raise ParameterError(f"{self.name}: gave {found.shape} for level {level} of {table.name}, where {(*wanted, 'd')} is asked")
        return found
