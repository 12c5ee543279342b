"""Relational tables as text: CSV files and data frames come in, rectangles of strings go out, and what could not be read is counted.

Every cell is a string; what is missing is "". Nothing is guessed about types.
"""

import csv
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from regraft.errors import InputError

MOST_ROWS = 10_000  # of a table: the first ones
DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Table:
    """A table: its `name`, `header` (one name a column, "" where there is none) and `rows`, each as long as the header."""

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        wrong = next((number for number, row in enumerate(self.rows) if len(row) != len(self.header)), None)
        if wrong is not None:
            raise InputError(f"{self.name}: row {wrong} has {len(self.rows[wrong])} cells for {len(self.header)} columns")

    @property
    def width(self) -> int:
        return len(self.header)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def columns(self) -> tuple[tuple[str, ...], ...]:
        """Cells column by column."""
        return tuple(zip(*self.rows, strict=True)) if self.rows else tuple(() for _ in self.header)

    @cached_property
    def digest(self) -> str:
        """Hash of header and cells in their order: equal tables under any name have the same."""
        text = hashlib.sha256()
        for row in (self.header, *self.rows):
            text.update(b"\x00".join(cell.encode("utf-8", "surrogatepass") for cell in row) + b"\x01")
        return text.hexdigest()

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """One name a column for people: the header, numbered where it is missing or there are several."""
        counts, seen, found = Counter(self.header), Counter[str](), []
        for number, name in enumerate(self.header):
            seen[name] += 1
            found.append(f"column {number + 1}" if not name else f"{name} ({seen[name]})" if counts[name] > 1 else name)
        return tuple(found)

    def take_rows(self, order: Iterable[int]) -> "Table":
        return Table(self.name, self.header, tuple(self.rows[i] for i in order))

    def take_columns(self, order: Sequence[int]) -> "Table":
        rows = tuple(tuple(row[j] for j in order) for row in self.rows)
        return Table(self.name, tuple(self.header[j] for j in order), rows)

    def head(self, count: int) -> "Table":
        return self if count >= len(self.rows) else Table(self.name, self.header, self.rows[:count])

    def with_header(self, header: Sequence[str]) -> "Table":
        return Table(self.name, tuple(header), self.rows)

    def is_numeric(self, column: int) -> bool:
        """Whether every cell that is not empty is a number, and there is one."""
        cells = [cell for cell in self.columns[column] if cell.strip()]
        return bool(cells) and all(_is_number(cell) for cell in cells)

    @classmethod
    def from_frame(cls, frame: Any, name: str = "table") -> "Table":
        """A pandas or polars frame: everything as text, missing values as ""."""
        names = list(frame.columns)
        by_place = hasattr(frame, "iloc")  # pandas allows two columns of one name
        columns = [(frame.iloc[:, j] if by_place else frame[column]).to_list() for j, column in enumerate(names)]
        rows = tuple(tuple(_text(cell) for cell in row) for row in zip(*columns, strict=True))
        return cls(name, tuple(_text(column) for column in names), rows)


@dataclass(frozen=True)
class Folder:
    """`tables` that were read; `skipped`: why others were not, by file; `notes` on what was mended."""

    tables: tuple[Table, ...]
    skipped: dict[str, str]
    notes: tuple[str, ...] = ()


def read_folder(place: str | Path, most_rows: int = MOST_ROWS) -> Folder:
    """Every .csv and .tsv under a folder, or one such file. Raises `InputError` if there is none with at least one row."""
    root = Path(place).expanduser()
    if not root.exists():
        raise InputError(f"{root}: no such folder: give a folder of .csv files")
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.suffix.lower() in DELIMITERS and path.is_file())
    if not files:
        raise InputError(f"{root}: has no .csv or .tsv file: give a folder of tables")
    names = [path.name if root.is_file() else path.relative_to(root).as_posix() for path in files]
    short = Counter(name.rpartition(".")[0] for name in names)
    tables, skipped, notes = [], {}, []
    for path, name in zip(files, names, strict=True):
        stem = name.rpartition(".")[0]
        try:
            table, mended = read_csv(path, name if short[stem] > 1 else stem, most_rows)
        except InputError as error:
            skipped[name] = str(error).removeprefix(f"{path}: ")
            continue
        tables.append(table)
        notes += [f"{name}: {note}" for note in mended]
    if not tables:
        first = next(iter(skipped))
        raise InputError(f"{root}: no table could be read; {first}: {skipped[first]}: give .csv or .tsv files with a header and rows")
    return Folder(tuple(tables), skipped, tuple(notes))


def read_csv(path: Path, name: str | None = None, most_rows: int = MOST_ROWS) -> tuple[Table, list[str]]:
    """A table and notes on what was mended: short rows are filled with "", cells beyond the header get columns without a name.

    Columns with neither a name nor a cell are dropped. Raises `InputError` for a file that is empty, has a header only, or is no text.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines, more = _lines(file, path, most_rows)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start}): save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path}: can't be read as CSV ({error})") from None
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None
    if not lines:
        raise InputError(f"{path}: is empty")
    header, rows = lines[0], lines[1:]
    if not rows:
        raise InputError(f"{path}: has a header and no row")
    width = max(map(len, lines))
    ragged = sum(len(row) != len(header) for row in rows)
    full = [[*row, *[""] * (width - len(row))] for row in (header, *rows)]
    kept = [j for j in range(width) if any(row[j] for row in full)]
    notes = [f"{ragged} of {len(rows)} rows had more or fewer cells than the header"] if ragged else []
    notes += [f"only the first {most_rows:,} rows were read"] if more else []
    head, *body = (tuple(row[j] for j in kept) for row in full)
    return Table(name or path.stem, head, tuple(body)), notes


def _lines(file: Any, path: Path, most_rows: int) -> tuple[list[list[str]], bool]:
    """Lines that are not blank, the header first, and whether there are more."""
    start = file.readline()
    file.seek(0)
    delimiter = DELIMITERS.get(path.suffix.lower(), ",")
    if delimiter == "," and "," not in start and ";" in start:
        delimiter = ";"
    lines: list[list[str]] = []
    for row in csv.reader(file, delimiter=delimiter):
        if not any(cell.strip() for cell in row):
            continue
        if len(lines) > most_rows:
            return lines, True
        lines.append([cell.replace("\x00", "").strip() for cell in row])
    return lines, False


def _text(cell: Any) -> str:
    """A cell of a frame as text: "" for None, NaN, NaT and NA."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)) or type(cell).__name__ in ("NAType", "NaTType"):
        return ""
    return str(cell)


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", ""))
    except ValueError:
        return False
    return True
