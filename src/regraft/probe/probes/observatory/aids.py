"""What a folder of tables cannot say by itself: which columns join, what type they have, what else they may be called. From CSV files.

Joins: table_a, column_a, table_b, column_b and, if known, quality. Types: table, column, type. Synonyms: column, synonym.
"""

import csv
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from regraft.errors import InputError
from regraft.probe.probes.observatory.properties.join import Pair, Place
from regraft.probe.probes.observatory.tables import DELIMITERS, Table


@dataclass(frozen=True, kw_only=True)
class Aids:
    """`joins` and `types` by place (number of the table, number of the column); `synonyms` by header. None: not given."""

    joins: tuple[Pair, ...] | None = None
    types: Mapping[Place, str] | None = None
    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)


def read_aids(tables: Sequence[Table], joins: Path | None = None, types: Path | None = None, synonyms: Path | None = None) -> Aids:
    """The files that were given. Raises `InputError` that names the line, and what is nearest to a name that is not there."""
    return Aids(
        joins=None if joins is None else _joins(joins, tables),
        types=None if types is None else _types(types, tables),
        synonyms={} if synonyms is None else _synonyms(synonyms),
    )


def _joins(path: Path, tables: Sequence[Table]) -> tuple[Pair, ...]:
    found = []
    for number, row in _rows(path, ("table_a", "column_a", "table_b", "column_b")):
        ends = [place_of(tables, row[f"table_{end}"], row[f"column_{end}"], f"{path}: line {number}") for end in "ab"]
        try:
            quality = float(row["quality"]) if row.get("quality") else None
        except ValueError:
            raise InputError(f"{path}: line {number}: quality '{row['quality']}' is not a number") from None
        found.append(Pair(ends[0], ends[1], quality))
    return tuple(found)


def _types(path: Path, tables: Sequence[Table]) -> dict[Place, str]:
    return {
        place_of(tables, row["table"], row["column"], f"{path}: line {number}"): row["type"]
        for number, row in _rows(path, ("table", "column", "type"))
    }


def _synonyms(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for _, row in _rows(path, ("column", "synonym")):
        found.setdefault(row["column"], []).append(row["synonym"])
    return found


def place_of(tables: Sequence[Table], table: str, column: str, where: str) -> Place:
    """The numbers of a table (with or without .csv) and of a column by its header. Raises `InputError` for one that is not there."""
    names = {one.name: number for number, one in enumerate(tables)}
    short = table.rpartition(".")[0] if table not in names and Path(table).suffix.lower() in DELIMITERS else table
    if short not in names:
        raise InputError(f"{where}: no table '{table}'{_nearest(short, list(names))}")
    found = tables[names[short]]
    labels = list(found.labels)
    if column in labels:
        return names[short], labels.index(column)
    if column in found.header:
        return names[short], found.header.index(column)
    raise InputError(f"{where}: table '{table}' has no column '{column}'{_nearest(column, labels)}")


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:5]
    return f": did you mean {' or '.join(near)}?"


def _rows(path: Path, wanted: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Lines by the names of their columns, with their numbers."""
    try:
        with path.expanduser().open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=DELIMITERS.get(path.suffix.lower(), ","), restval="")
            missing = [name for name in wanted if name not in (reader.fieldnames or [])]
            if missing:
                raise InputError(f"{path}: has no column '{missing[0]}': its first line must be {','.join(wanted)}")
            rows = [(reader.line_num, {k: v.strip() for k, v in row.items() if k is not None and isinstance(v, str)}) for row in reader]
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: can't be read as CSV in UTF-8 ({error})") from None
    empty = next(((n, name) for n, row in rows for name in wanted if not row[name]), None)
    if empty is not None:
        raise InputError(f"{path}: line {empty[0]}: nothing for '{empty[1]}'")
    if not rows:
        raise InputError(f"{path}: has a header and no line")
    return rows
