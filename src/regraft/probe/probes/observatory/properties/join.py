"""P3, join relationship: columns that share values should lie near each other."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from regraft.probe.probe import Measurement
from regraft.probe.probes.observatory.encoder import Encoder
from regraft.probe.probes.observatory.measures import bootstrap_spearman, containment, cosines, jaccard, multiset_jaccard, spearman
from regraft.probe.probes.observatory.properties.base import Collection, Floats, Found, Outcome, Property, evenly, mean_vectors
from regraft.probe.probes.observatory.tables import Table

CELL_TOKENS = 20
PAPER_LENGTH = 512
OVERLAPS = {"containment": containment, "Jaccard": jaccard, "multiset Jaccard": multiset_jaccard}
FEW_PAIRS = 10
Place = tuple[int, int]  # of a column: its table's number and its own


@dataclass(frozen=True)
class Pair:
    """Two columns, and the quality of their join where a file gives one."""

    left: Place
    right: Place
    quality: float | None = None


@dataclass(frozen=True, kw_only=True)
class Join(Property):
    """Spearman's correlation of the cosine of two columns with what they share.

    Parameters
    ----------
    pairs : columns to compare; by default all pairs of different tables that share a value (`pairs_by_overlap`), the one with fewer values
        first. A column of numbers takes part only in pairs that are given.
    samples : at most so many pairs, by draw. chunks : at most so many chunks of rows a column, evenly apart; the paper takes all.
    neighbours : columns to either side that are encoded with it.
    """

    key = "join"
    title = "Joins"
    question = "Are columns that share values near each other?"
    headline = ("containment", "Spearman")
    axis: ClassVar[str] = "cosine of the two columns"

    pairs: tuple[Pair, ...] | None = None
    samples: int = 500
    chunks: int | None = 8
    neighbours: int = 1
    draws: int = 500
    seed: int = 0

    def chosen(self, tables: Sequence[Table]) -> list[Pair]:
        pairs = list(self.pairs) if self.pairs is not None else pairs_by_overlap(tables)
        if len(pairs) <= self.samples:
            return pairs
        drawn = np.random.default_rng(self.seed).permutation(len(pairs))[: self.samples]
        return [pairs[i] for i in sorted(drawn.tolist())]

    def cost(self, tables: Collection) -> int:
        columns = {place for pair in self.chosen(tables.tables) for place in (pair.left, pair.right)}
        return sum(len(_chunks(self.around(tables.tables[t], c)[0], self.chunks)) for t, c in columns)

    def measure(self, encoder: Encoder, tables: Collection) -> Found:
        found = Found()
        pairs = self.chosen(tables.tables)
        if not pairs:
            found.notes.append("not measured: no two tables share values in a column of text; give --joins FILE")
            return found
        places = list(dict.fromkeys(place for pair in pairs for place in (pair.left, pair.right)))
        vectors = dict(zip(places, self.vectors(encoder, tables, places, found), strict=True))
        known = [pair for pair in pairs if all(np.isfinite(vectors[place]).all() for place in (pair.left, pair.right))]
        found.skipped["pairs with a column that has no vector"] += len(pairs) - len(known)
        if not known:
            return found
        close = cosines(np.stack([vectors[p.left] for p in known]), np.stack([vectors[p.right] for p in known]))
        cells = {place: [cell for cell in tables.tables[place[0]].columns[place[1]] if cell] for place in places}
        shared = {name: np.array([measure(cells[p.left], cells[p.right]) for p in known]) for name, measure in OVERLAPS.items()}
        if any(p.quality is not None for p in known):
            shared["given quality"] = np.array([np.nan if p.quality is None else p.quality for p in known])
        names = [tuple(f"{tables.tables[t].name}: {tables.tables[t].labels[c]}" for t, c in (p.left, p.right)) for p in known]
        for name, overlap in shared.items():
            found.outcomes.append(self._outcome(name, close, overlap, names))
        return found

    def _outcome(self, name: str, close: Floats, overlap: Floats, names: Sequence[tuple[str, ...]]) -> Outcome:
        interval = bootstrap_spearman(close, overlap, draws=self.draws, seed=self.seed)
        few = [f"only {len(close)} pairs: read nothing into it"] if len(close) < FEW_PAIRS else []
        note = [f"interval: 95 %, {self.draws} draws of {len(close)} pairs"] if interval else []
        return Outcome(
            setting=name,
            measure="Spearman",
            values=close,
            tables=tuple(left for left, _ in names),
            items=tuple(right for _, right in names),
            measurement=Measurement(
                name=f"{name} Spearman", value=spearman(close, overlap), unit="correlation", interval=interval, notes=(*few, *note),
                read="1: the more two columns share, the nearer they lie; 0: no relation",
            ),
            beside={"overlap": overlap},
        )  # fmt: skip

    def around(self, table: Table, column: int) -> tuple[Table, int]:
        """The column with its neighbours, and its number among them."""
        first = max(0, column - self.neighbours)
        return table.take_columns(range(first, min(table.width, column + self.neighbours + 1))), column - first

    def vectors(self, encoder: Encoder, tables: Collection, places: Sequence[Place], found: Found) -> list[Floats]:
        """(d,) each: the mean over chunks of rows, each encoded with the neighbouring columns, cells cut to 20 tokens."""
        texts: list[Table] = []
        spans = []
        for number, column in places:
            around, own = self.around(_shortened(tables.tables[number], column, self.neighbours, encoder), column)
            parts = _chunks(around, self.chunks)
            fitting = [part.head(rows) for part in parts if (rows := tables.rows(part, "column"))]
            found.skipped["chunks of which no row fits"] += len(parts) - len(fitting)
            spans.append((len(texts), len(texts) + len(fitting), own))
            texts += fitting
        embedded = encoder.embed(texts, "column")
        nothing = np.full(embedded[0].shape[-1] if embedded else 1, np.nan)
        return [mean_vectors([one[own] for one in embedded[start:stop]]) if stop > start else nothing for start, stop, own in spans]


def pairs_by_overlap(tables: Sequence[Table]) -> list[Pair]:
    """Pairs of text columns of different tables that share at least one value, the column with fewer distinct values first.

    Columns are found by way of their values, so nothing columns x columns is made.
    """
    values: dict[Place, set[str]] = {}
    holders: dict[str, list[Place]] = defaultdict(list)
    for number, table in enumerate(tables):
        for column in range(table.width):
            if not table.is_numeric(column):
                values[number, column] = {cell for cell in table.columns[column] if cell}
                for value in values[number, column]:
                    holders[value].append((number, column))
    shared = {(a, b) for places in holders.values() for i, a in enumerate(places) for b in places[i + 1 :] if a[0] != b[0]}
    ordered = ((a, b) if len(values[a]) <= len(values[b]) else (b, a) for a, b in sorted(shared))
    return [Pair(a, b) for a, b in ordered]


def _chunks(around: Table, most: int | None) -> list[Table]:
    """Chunks of 512 // (columns * 20) rows."""
    size = max(1, PAPER_LENGTH // (around.width * CELL_TOKENS))
    count = -(-len(around) // size)
    return [around.take_rows(range(i * size, min(len(around), (i + 1) * size))) for i in evenly(count, most)]


def _shortened(table: Table, column: int, neighbours: int, encoder: Encoder) -> Table:
    """The table with cells of the columns around `column` cut to 20 tokens."""
    near: Iterable[int] = range(max(0, column - neighbours), min(table.width, column + neighbours + 1))
    texts = sorted({cell for j in near for cell in table.columns[j] if len(cell) > CELL_TOKENS})
    short = dict(zip(texts, encoder.shorten(texts, CELL_TOKENS), strict=True))
    if all(text == cut for text, cut in short.items()):
        return table
    return Table(table.name, table.header, tuple(tuple(short.get(cell, cell) for cell in row) for row in table.rows))
