"""P7, perturbation robustness: a column under another name, or with its values written otherwise, is the same column."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from regraft.probe.probes.observatory.encoder import Encoder
from regraft.probe.probes.observatory.measures import cosines
from regraft.probe.probes.observatory.properties.base import Collection, Found, Property, Values
from regraft.probe.probes.observatory.tables import Table

KNOWN = {
    "account": "acct", "address": "addr", "amount": "amt", "average": "avg", "category": "cat", "code": "cd", "country": "ctry",
    "date": "dt", "department": "dept", "description": "desc", "identifier": "id", "language": "lang", "manager": "mgr",
    "maximum": "max", "minimum": "min", "number": "num", "organization": "org", "percentage": "pct", "population": "pop",
    "quantity": "qty", "reference": "ref", "temperature": "temp", "year": "yr",
}  # fmt: skip
SHORTEST = 4  # letters of a word that is abbreviated
READ = "1: the column keeps its vector; below 1: it moves with how it is written"


@dataclass(frozen=True)
class Change:
    """Column `column` of table number `table` under another `header`, or with other `cells`; `kind` : of change."""

    table: int
    column: int
    kind: str
    header: str | None = None
    cells: tuple[str, ...] | None = None

    def apply(self, table: Table) -> Table:
        """The table with this one column changed, as many rows as it has."""
        header = list(table.header)
        if self.header is not None:
            header[self.column] = self.header
        if self.cells is None:
            return table.with_header(header)
        rows = (
            (*row[: self.column], cell, *row[self.column + 1 :]) for row, cell in zip(table.rows, self.cells[: len(table)], strict=True)
        )
        return Table(table.name, tuple(header), tuple(rows))


@dataclass(frozen=True, kw_only=True)
class Perturbation(Property):
    """Cosine of a changed column's vector with its own before the change, the other columns as they were.

    Original and variants of a table are cut to the rows that fit all of them.

    Parameters
    ----------
    changes : what to change; by default abbreviations of headers, columns of whole numbers written with a decimal (12 as 12.0), and
        `synonyms`. synonyms : other names by header.
    """

    key = "perturbation"
    title = "Other names and notations"
    question = "Does a column keep its vector under another name?"
    headline = ("abbreviation", "cosine")
    axis: ClassVar[str] = "cosine with the column before"

    changes: tuple[Change, ...] | None = None
    synonyms: Mapping[str, Sequence[str]] = field(default_factory=dict)
    draws: int = 500
    seed: int = 0

    def chosen(self, tables: Sequence[Table]) -> list[Change]:
        return list(self.changes) if self.changes is not None else changes_of(tables, self.synonyms)

    def cost(self, tables: Collection) -> int:
        changes = self.chosen(tables.tables)
        return len(changes) + len({change.table for change in changes})

    def measure(self, encoder: Encoder, tables: Collection) -> Found:
        found, raw = Found(), defaultdict[str, Values](Values)
        by_table: dict[int, list[Change]] = defaultdict(list)
        for change in self.chosen(tables.tables):
            by_table[change.table].append(change)
        for number, changes in by_table.items():
            whole = tables.tables[number]
            variants = [whole, *(change.apply(whole) for change in changes)]
            rows = min(tables.rows(variant, "column") for variant in variants)
            if not rows:
                found.skipped["tables of which no row fits"] += 1
                continue
            before, *after = encoder.embed([variant.head(rows) for variant in variants], "column")
            for change, vectors in zip(changes, after, strict=True):
                name = f"{whole.labels[change.column]} → {change.header or change.kind}"
                raw[change.kind].add(whole.name, [name], [float(cosines(before[change.column], vectors[change.column]))])
        for kind, values in raw.items():
            found.outcomes.append(values.outcome(kind, "cosine", READ, draws=self.draws, seed=self.seed))
        if not self.synonyms and self.changes is None:
            found.notes.append("synonyms not measured: give --synonyms FILE")
        return found


def changes_of(tables: Sequence[Table], synonyms: Mapping[str, Sequence[str]]) -> list[Change]:
    """Every change that the tables allow."""
    found = []
    for number, table in enumerate(tables):
        for column, name in enumerate(table.header):
            short = abbreviate(name)
            if short != name:
                found.append(Change(number, column, "abbreviation", header=short))
            found += [Change(number, column, "synonym", header=other) for other in synonyms.get(name, ())]
            cells = table.columns[column]
            if table.is_numeric(column) and all(re.fullmatch(r"-?\d+", cell) for cell in cells if cell):
                found.append(Change(number, column, "equal values", cells=tuple(f"{cell}.0" if cell else "" for cell in cells)))
    return found


def abbreviate(name: str) -> str:
    """A header as schemas shorten it: known short forms, else a word without the vowels inside. "Release_Year" is "Rls_Yr"."""
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^A-Za-z]+", name)
    return "".join(_short(part) for part in parts) if "".join(parts) == name else name


def _short(word: str) -> str:
    if not word.isalpha() or len(word) < SHORTEST or word.isupper():
        return word
    lower = word.lower()
    short = KNOWN.get(lower) or lower[0] + re.sub(r"(.)\1", r"\1", re.sub("[aeiou]", "", lower[1:]))
    return short.capitalize() if word[0].isupper() else short
