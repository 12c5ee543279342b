"""Relational tables that can be had offline, and pairs of columns with a known share of common values.

Enters: how many rows. Leaves: five tables of Wikipedia, films and viewers of MovieLens, ICD-10-CM, and frames of scikit-learn.
"""

import csv
from typing import Any

import numpy as np

from regraft.datasets import fetch, files
from regraft.datasets.packages import import_package
from regraft.probe.probes.observatory.properties.join import Pair
from regraft.probe.probes.observatory.tables import Table, read_csv

VALUES = 40  # of a column in a pair


def relational_tables(rows: int) -> list[Table]:
    """Tables of at most `rows` rows; the long ones by draw, in their order."""
    frames = [Table.from_frame(_frame(name), name) for name in ("iris", "wine", "diabetes")]
    tables = [*(read_csv(fetch("wiki-tables", name))[0] for name in files("wiki-tables")), films(), viewers(), icd(), *frames]
    return [_drawn(table, rows) for table in tables]


def films() -> Table:
    return _movielens("ml-100k.item", "films")


def viewers() -> Table:
    return _movielens("ml-100k.user", "viewers")


def icd() -> Table:
    """Codes of ICD-10-CM of three characters: code, description, block, chapter."""
    package = import_package("simple_icd_10_cm", "simple-icd-10-cm")
    rows = []
    for code in (code for code in package.get_all_codes() if package.is_category(code) and len(code) == 3):
        chapter, block = package.get_ancestors(code)[-1], package.get_parent(code)
        rows.append((code, package.get_description(code), package.get_description(block), package.get_description(chapter)))
    return Table("icd-10-cm", ("code", "description", "block", "chapter"), tuple(rows))


def pairs_of_known_overlap(table: Table, column: int, steps: int, draws: int, seed: int) -> tuple[list[Table], tuple[Pair, ...]]:
    """Tables of one column of 40 distinct values, and pairs of them that share 0 to all of these in `steps` steps, `draws` a step."""
    values = sorted({cell for cell in table.columns[column] if cell})
    generator = np.random.default_rng(seed)
    tables: list[Table] = []
    pairs: list[Pair] = []
    for step in range(steps):
        shared = round(VALUES * step / (steps - 1))
        for _ in range(draws):
            drawn = [values[i] for i in generator.permutation(len(values))[: 2 * VALUES - shared]]
            left, right = drawn[:VALUES], drawn[VALUES - shared :]
            for cells in (left, right):
                order = generator.permutation(len(cells))
                tables.append(Table(f"{table.name} {len(tables)}", (table.header[column],), tuple((cells[i],) for i in order)))
            pairs.append(Pair((len(tables) - 2, 0), (len(tables) - 1, 0), quality=shared / VALUES))
    return tables, tuple(pairs)


def _movielens(file: str, name: str) -> Table:
    """A file of RecBole: names with a type behind a colon."""
    with fetch("ml-100k", file).open(encoding="utf-8", newline="") as opened:
        header, *rows = csv.reader(opened, delimiter="\t", quoting=csv.QUOTE_NONE)
    return Table(name, tuple(column.partition(":")[0] for column in header), tuple(tuple(row) for row in rows))


def _frame(name: str) -> Any:
    from sklearn import datasets

    loaded = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = loaded.frame
    if name != "diabetes":
        frame["target"] = [loaded.target_names[i] for i in loaded.target]
    return frame


def _drawn(table: Table, rows: int) -> Table:
    order = np.random.default_rng(0).permutation(len(table))[:rows]
    return table.take_rows(sorted(order.tolist()))
