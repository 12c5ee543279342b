"""Files of facts, a block of lines at a time: memory is that of ids and different names, not of the text.

Enters: paths. Leaves: names as they are met and (n, 3) ids of head, relation, tail a file, each fact once.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from regraft.errors import InputError

Ids = npt.NDArray[np.int64]
BLOCK = 1 << 18  # lines that are read at once
ENDS = ("head", "relation", "tail")


@dataclass(frozen=True, eq=False)
class Named:
    """`parts` (n, 3) of ids, one a file; an id is a place among `entities`, in the middle among `relations`."""

    entities: tuple[str, ...]
    relations: tuple[str, ...]
    parts: list[Ids]


def read_facts(paths: Sequence[Path]) -> Named:
    """Head, relation, tail a line, split by tabs, or by blanks where the first line has no tab; empty lines are left out.

    Raises `InputError`: a line without three names, an empty name, a file without facts or that is no UTF-8.
    """
    entities: dict[str, int] = {}
    relations: dict[str, int] = {}
    parts = []
    for path in paths:
        blocks = [_numbered(path, block, (entities, relations, entities)) for block in _blocks(path)]
        rows = np.concatenate(blocks) if blocks else np.empty((0, 3), dtype=np.int32)
        del blocks
        if not len(rows):
            raise InputError(f"{path}: no facts: write head, relation, tail a line")
        parts.append(_once(rows, len(relations), len(entities)))
    return Named(tuple(entities), tuple(relations), parts)


def _blocks(path: Path) -> Iterator[pd.DataFrame]:
    """Columns 0 to 2 and perhaps more, texts or NaN; the index is the number of the line, from 0."""
    how: dict[str, Any] = {"header": None, "names": range(4), "dtype": str, "keep_default_na": False, "na_values": [], "quoting": 3}
    try:
        with path.open(encoding="utf-8-sig") as lines:
            number, first = next(((number, line) for number, line in enumerate(lines, 1) if line.strip()), (0, ""))
        tabs = "\t" in first
        if (count := len(first.split("\t" if tabs else None))) > 4:
            raise InputError(_wrong(path, number, count))
        how |= {"sep": "\t" if tabs else r"\s+", "skip_blank_lines": False, "encoding": "utf-8-sig", "index_col": False}
        if first:
            yield from pd.read_csv(path, chunksize=BLOCK, **how)
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text: give lines of head, relation, tail") from None
    except pd.errors.ParserError as error:
        found = re.search(r"line (\d+), saw (\d+)", str(error))
        raise InputError(_wrong(path, *map(int, found.groups())) if found else f"{path}: {str(error).strip()}") from None


def _numbered(path: Path, block: pd.DataFrame, names: Sequence[dict[str, int]]) -> npt.NDArray[np.int32]:
    found = np.empty((len(block), 3), dtype=np.int32)
    empty = np.empty((len(block), 4), dtype=bool)
    for column in range(4):
        code, texts = pd.factorize(block[column])
        stripped = [text.strip() if isinstance(text, str) else "" for text in texts]
        without = np.array([not text for text in stripped] + [True])  # the last is of missing fields, whose code is -1
        empty[:, column] = without[code]
        if column < 3:
            places = [names[column].setdefault(text, len(names[column])) if text else -1 for text in stripped]
            found[:, column] = np.array([*places, -1], dtype=np.int32)[code]
    blank = empty.all(1)
    wrong = np.flatnonzero(~blank & (empty[:, :3].any(1) | ~empty[:, 3]))
    if len(wrong):
        _refuse(path, block.iloc[wrong[0]], int(block.index[wrong[0]]) + 1)
    return found[~blank]


def _refuse(path: Path, row: pd.Series, number: int) -> None:
    cells = [cell.strip() if isinstance(cell, str) else "" for cell in row]
    while cells and not cells[-1]:  # left out, or empty: the reader tells no difference
        cells.pop()
    if len(cells) == 3:
        raise InputError(f"{path}, line {number}: an empty {ENDS[cells.index('')]}: give each a name")
    raise InputError(_wrong(path, number, len(cells)))


def _wrong(path: Path, number: int, count: int) -> str:
    return f"{path}, line {number}: {count} name{'s' * (count != 1)}: write head, relation, tail with tabs between"


def _once(rows: npt.NDArray[np.int32], relations: int, entities: int) -> Ids:
    """Each fact where it stands first."""
    codes = (rows[:, 0].astype(np.int64) * relations + rows[:, 1]) * entities + rows[:, 2]
    first = np.sort(np.unique(codes, return_index=True)[1])
    found: Ids = rows[first].astype(np.int64)
    return found
