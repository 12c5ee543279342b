"""Documents out of one file, whatever its format.

Enters: a path and, for tables, the name of the text column. Leaves: the file's documents, one at a time, so that a file larger than memory
can be read, and read again. A file that is not text raises `UnreadableError`; the corpus decides whether to skip it or to stop.
"""

import csv
import gzip
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from regraft.corpus.catalogues import CatalogueError, read_mo, read_po
from regraft.errors import CorpusError

DEFAULT_COLUMN = "text"
PROBE_BYTES = 8192  # a NUL this early marks a binary file, as in git
BOMS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
)
GZIP_MAGIC = b"\x1f\x8b"


class UnreadableError(Exception):
    """A file gave no documents. `malformed`: it is of a known table format but breaks it, or lacks the column asked for."""

    def __init__(self, why: str, malformed: bool = False) -> None:
        super().__init__(why)
        self.why, self.malformed = why, malformed


def read_documents(path: Path, text_column: str | None = None, suffix: str | None = None, *, empty: bool = False) -> Iterator[str]:
    """The documents of the file (or saved `datasets` directory) at `path`, in file order, empty ones left out.

    Parameters
    ----------
    text_column : column of JSON, CSV, TSV, Parquet or `datasets` rows; "text" by default; "a.b" reaches into nested records.
    suffix : the format to assume instead of the path's own ending, for example ".jsonl".
    empty : give empty rows of tables too, as "": what is made of them then has as many rows as the table.

    Raises `UnreadableError` at the first byte that is not text, and `CorpusError` when an optional package is missing.
    """
    column = text_column or DEFAULT_COLUMN
    reader = _reader(path, suffix)
    try:
        for document in reader(path, column):
            if document and not document.isspace():
                yield document
            elif empty and reader in (_json, _csv, _tsv, _parquet, _saved_dataset):
                yield ""
    except UnicodeDecodeError as error:
        raise UnreadableError(f"not {error.encoding.upper()} text ({error.reason}); convert it with iconv") from None
    except CatalogueError as error:
        raise UnreadableError(str(error)) from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UnreadableError("damaged or truncated gzip file") from None
    except OSError as error:
        raise UnreadableError((error.strerror or str(error)).lower()) from None


def is_saved_dataset(path: Path) -> bool:
    """Whether `path` is a directory written by `datasets`' `save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or ((path / "state.json").is_file() and (path / "dataset_info.json").is_file())


def _reader(path: Path, suffix: str | None) -> Callable[[Path, str], Iterator[str]]:
    if path.is_dir():
        return _saved_dataset
    if suffix is None:
        name = path.name.lower()
        suffix = Path(name.removesuffix(".gz")).suffix
    by_suffix: dict[str, Callable[[Path, str], Iterator[str]]] = {
        ".jsonl": _json,
        ".ndjson": _json,
        ".json": _json,
        ".csv": _csv,
        ".tsv": _tsv,
        ".parquet": _parquet,
        ".po": _po,
        ".mo": _mo,
    }
    return by_suffix.get(suffix, _plain)


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, through gzip when its first bytes say so."""
    with path.open("rb") as file:
        zipped = file.read(2) == GZIP_MAGIC
        file.seek(0)
        if not zipped:
            yield file
            return
        with gzip.open(file) as unzipped:
            yield unzipped  # type: ignore[misc]


@contextmanager
def open_text(path: Path, newline: str | None = None) -> Iterator[IO[str]]:
    """Open UTF-8 text, or UTF-8/16/32 with a byte order mark; raises `UnreadableError` for binary files."""
    with open_bytes(path) as file:
        start = file.read(PROBE_BYTES)
        encoding = next((name for mark, name in BOMS if start.startswith(mark)), "utf-8")
        if encoding.startswith("utf-8") and b"\x00" in start:
            raise UnreadableError("binary")
        file.seek(0)
        with io.TextIOWrapper(file, encoding=encoding, newline=newline) as text:
            yield text


def _plain(path: Path, column: str) -> Iterator[str]:
    """Blocks between blank lines; in a file with no blank line between two lines, each line."""
    with open_text(path) as file:
        blocks = _has_blank_line(file)
    with open_text(path) as file:
        if not blocks:
            for line in file:
                yield line.rstrip("\n")
            return
        block: list[str] = []
        for line in file:
            if line.isspace():
                yield "".join(block).rstrip("\n")
                block = []
            else:
                block.append(line)
        yield "".join(block).rstrip("\n")


def _has_blank_line(file: IO[str]) -> bool:
    """Whether a blank line stands between two lines that are not blank."""
    seen_text = seen_blank = False
    for line in file:
        blank = line.isspace()
        if not blank and seen_blank:
            return True
        seen_text = seen_text or not blank
        seen_blank = seen_blank or (blank and seen_text)
    return False


def _json(path: Path, column: str) -> Iterator[str]:
    """One document a record: JSON lines, one JSON array, or JSON values one after the other. A record may be a bare string."""
    for number, record in enumerate(json_values(path), start=1):
        yield record if isinstance(record, str) else _pick(record, column, f"record {number}")


def json_values(path: Path, chunk: int = 1 << 20) -> Iterator[Any]:
    """Values of a JSON array or of a sequence of JSON values, read in chunks so that a long array never sits in memory whole."""
    decoder = json.JSONDecoder()
    with open_text(path) as file:
        buffer, position, line, in_array, finished = "", 0, 1, None, False
        while True:
            position = _skip(buffer, position, " \t\r\n," if in_array else " \t\r\n")
            if in_array is None and position < len(buffer):
                in_array = buffer[position] == "["
                position += in_array
                continue
            if in_array and buffer[position : position + 1] == "]":
                return
            if position < len(buffer):
                try:
                    value, end = decoder.raw_decode(buffer, position)
                except RecursionError:
                    raise UnreadableError("the JSON is nested too deeply", malformed=True) from None
                except json.JSONDecodeError as error:
                    if finished or not _may_continue(error, len(buffer)):
                        at = line + buffer.count("\n", 0, error.pos)
                        raise UnreadableError(f"line {at} is not valid JSON ({error.msg.lower()})", malformed=True) from None
                else:
                    if end < len(buffer) or finished:
                        yield value
                        position = end
                        continue
            elif finished:
                if in_array:
                    raise UnreadableError("the JSON array is not closed: the file seems truncated", malformed=True)
                return
            line += buffer.count("\n", 0, position)
            more = file.read(max(chunk, len(buffer) - position))  # doubling keeps one very long record from being parsed many times
            buffer, position, finished = buffer[position:] + more, 0, not more


def _may_continue(error: json.JSONDecodeError, end: int) -> bool:
    """Whether more text could mend the error: the value was cut at the end of what has been read."""
    return error.msg.startswith("Unterminated string") or error.pos >= end - 16


def _skip(text: str, position: int, characters: str) -> int:
    while position < len(text) and text[position] in characters:
        position += 1
    return position


def _pick(record: Any, column: str, where: str) -> str:
    """The text of one record; a missing value is an empty document."""
    value = record
    if not isinstance(record, dict):
        raise UnreadableError(f"{where} is {_kind(record)}, not an object with a '{column}' field", malformed=True)
    if column in record:
        value = record[column]
    else:
        for part in column.split("."):
            if not isinstance(value, dict) or part not in value:
                raise UnreadableError(
                    f"{where} has no '{column}': it has {_some(record)}; name the text with --text-column", malformed=True
                )
            value = value[part]
    if value is None:
        return ""
    if not isinstance(value, str):
        inside = f" with {_some(value)}; reach into it with --text-column {column}.FIELD" if isinstance(value, dict) else ""
        raise UnreadableError(f"'{column}' of {where} is {_kind(value)}, not text{inside}", malformed=True)
    return value


def _check_column(column: str, top: str, names: list[str]) -> None:
    if top not in names:
        raise UnreadableError(f"has no column '{column}': it has {_some(names)}; name the text with --text-column", malformed=True)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "a truth value", int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _some(names: Any, limit: int = 8) -> str:
    shown = [str(name) for name in names][: limit + 1]
    return ", ".join(shown[:limit]) + (", ..." if len(shown) > limit else "") if shown else "no fields"


def _csv(path: Path, column: str) -> Iterator[str]:
    return _table(path, column, delimiter=",", quoting=csv.QUOTE_MINIMAL)


def _tsv(path: Path, column: str) -> Iterator[str]:
    """TSV comes with quoting (as spreadsheets write it) and without (as corpora do): quoted if the whole file parses that way."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
    try:
        for _ in _table(path, column, delimiter="\t", quoting=quoting):
            pass
    except UnreadableError:
        quoting = csv.QUOTE_NONE
    return _table(path, column, delimiter="\t", quoting=quoting)


def _table(path: Path, column: str, delimiter: str, quoting: Literal[0, 3]) -> Iterator[str]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default refuses fields past 128 kB
    with open_text(path, newline="") as file:
        rows = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)
        try:
            header = next(rows, [])
            _check_column(column, column, header)
            index = header.index(column)
            for row in rows:
                if row and len(row) != len(header):
                    raise UnreadableError(f"line {rows.line_num} has {len(row)} fields where the header has {len(header)}", malformed=True)
                if row:
                    yield row[index]
        except csv.Error as error:
            raise UnreadableError(f"line {rows.line_num}: {error}", malformed=True) from None


def _parquet(path: Path, column: str) -> Iterator[str]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise CorpusError(f"{path}: reading Parquet needs pyarrow: pip install 'regraft[data]'") from None
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            top = column if column in names else column.split(".")[0]
            _check_column(column, top, names)
            row = 0
            for batch in file.iter_batches(batch_size=1024, columns=[top]):
                for record in batch.to_pylist():
                    row += 1
                    yield _pick(record, column, f"row {row}")
    except pa.ArrowInvalid as error:
        raise UnreadableError(f"damaged Parquet file ({str(error).splitlines()[0].rstrip('.')})", malformed=True) from None


def _saved_dataset(path: Path, column: str) -> Iterator[str]:
    try:
        import datasets
    except ImportError:
        raise CorpusError(f"{path}: reading a saved dataset needs the datasets package: pip install 'regraft[data]'") from None
    try:
        loaded = datasets.load_from_disk(str(path))
    except Exception as error:  # datasets raises many kinds for damaged directories
        raise UnreadableError(f"damaged saved dataset ({str(error).splitlines()[0]})", malformed=True) from None
    parts = [loaded[name] for name in sorted(loaded)] if isinstance(loaded, dict) else [loaded]
    for part in parts:
        top = column if column in part.column_names else column.split(".")[0]
        _check_column(column, top, part.column_names)
        row = 0
        for batch in part.select_columns([top]).iter(batch_size=1024):
            for value in batch[top]:
                row += 1
                yield _pick({top: value}, column, f"row {row}")


def _po(path: Path, column: str) -> Iterator[str]:
    with open_text(path) as file:
        yield from read_po(file)


def _mo(path: Path, column: str) -> Iterator[str]:
    with open_bytes(path) as file:
        yield from read_mo(file.read())
