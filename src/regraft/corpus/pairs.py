"""Parallel text in: pairs of a source and a reference sentence, out of one table or out of two files of parallel lines.

Enters: a path, or two. Leaves: pairs in the order of the file; whatever is no pair is an error that names its line.
"""

import csv
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from regraft.corpus.readers import UnreadableError, json_values, open_text
from regraft.errors import CorpusError

Pair = tuple[str, str]
SOURCE, REFERENCE = "source", "reference"
RECORDS = (".jsonl", ".ndjson", ".json")


def read_pairs(path: str | Path, references: str | Path | None = None) -> list[Pair]:
    """The pairs of a table, or of two UTF-8 files of parallel lines if `references` is given; rows without any text are left out.

    A ``.csv`` or ``.tsv`` file has two columns, or a header that names the columns "source" and "reference" among others. A ``.jsonl`` file
    has objects with these two fields.

    Raises `CorpusError`: a file that cannot be read or has another format, files of unequal length, a pair with one side only, no pair.
    """
    if references is not None:
        lines = [(a.strip(), b.strip()) for a, b in read_parallel(Path(path), Path(references))]
        pairs = [checked_pair(a, b, f"{path} and {references}, line {n}") for n, (a, b) in enumerate(lines, 1) if a or b]
    else:
        pairs = _read_table(Path(path))
    if not pairs:
        raise CorpusError(f"{path}: no pairs in it: give sentences with their translations")
    return pairs


def read_parallel(source: Path, target: Path) -> list[Pair]:
    """Every line of two UTF-8 files beside the other's, empty ones too. Raises `CorpusError`: unreadable files, or of unequal length."""
    sides: list[list[str]] = []
    for path in (source, target):
        try:
            sides.append(path.read_text("utf-8").removesuffix("\n").split("\n"))
        except (OSError, UnicodeDecodeError) as error:
            raise CorpusError(f"{path}: cannot read the parallel text ({error}): give two UTF-8 files, line by line in parallel") from None
    if len(sides[0]) != len(sides[1]):
        raise CorpusError(f"{source} has {len(sides[0])} lines and {target} {len(sides[1])}: parallel text needs as many on both sides")
    return list(zip(*sides, strict=True))


def checked_pair(source: str, reference: str, where: str) -> Pair:
    """The pair, if both sides are text. Raises `CorpusError` that says `where`."""
    for name, text in ((SOURCE, source), (REFERENCE, reference)):
        if not text.strip():
            raise CorpusError(f"{where}: the {name} is empty: give both sides, or leave the pair out")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise CorpusError(f"{where}: the {name} holds a lone surrogate: it is not text; leave the pair out")
    return source, reference


def _read_table(path: Path) -> list[Pair]:
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    try:
        if suffix in RECORDS:
            return list(_records(path))
        if suffix == ".csv":
            return list(_columns(path, ",", csv.QUOTE_MINIMAL))
        if suffix == ".tsv":  # with quoting as spreadsheets write it, or without as corpora do
            try:
                return list(_columns(path, "\t", csv.QUOTE_MINIMAL))
            except UnreadableError:
                return list(_columns(path, "\t", csv.QUOTE_NONE))
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not {error.encoding.upper()} text ({error.reason}): convert it with iconv") from None
    except (OSError, EOFError, zlib.error, UnreadableError) as error:
        raise CorpusError(f"{path}: the pairs cannot be read ({error}): give source and reference in .tsv, .csv or .jsonl") from None
    raise CorpusError(f"{path}: pairs are read from .tsv, .csv and .jsonl files, or from two files of parallel lines (--bitext)")


def _columns(path: Path, delimiter: str, quoting: Literal[0, 3]) -> Iterator[Pair]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default refuses fields past 128 kB
    with open_text(path, newline="") as file:
        rows = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)
        width, source, reference = 0, 0, 1
        try:
            for row in rows:
                if not any(cell.strip() for cell in row):
                    continue
                names = [cell.strip().lower() for cell in row] if not width else []
                width = width or (len(row) if {SOURCE, REFERENCE} <= set(names) else 2)
                if len(row) != width:
                    wanted = f"{width} columns" if width > 2 else f"two columns, or a header with '{SOURCE}' and '{REFERENCE}'"
                    raise UnreadableError(f"line {rows.line_num} has {len(row)} columns: it needs {wanted}")
                if {SOURCE, REFERENCE} <= set(names):
                    source, reference = names.index(SOURCE), names.index(REFERENCE)
                else:
                    yield checked_pair(row[source], row[reference], f"{path}, line {rows.line_num}")
        except csv.Error as error:
            raise UnreadableError(f"line {rows.line_num}: {error}") from None


def _records(path: Path) -> Iterator[Pair]:
    for number, record in enumerate(json_values(path), 1):
        source, reference = (record.get(name) if isinstance(record, dict) else None for name in (SOURCE, REFERENCE))
        if not isinstance(source, str) or not isinstance(reference, str):
            raise UnreadableError(f"record {number} is no object with the texts '{SOURCE}' and '{REFERENCE}'")
        yield checked_pair(source, reference, f"{path}, record {number}")
