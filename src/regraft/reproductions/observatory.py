"""Observatory, tested again on a desktop: do the paper's findings on columns, rows and dependencies hold for a small sentence encoder?

The paper measures nine models on WikiTables, NextiaJD, Spider, Dr.Spider and SOTAB. Here all-MiniLM-L6-v2 reads five WikiTables, films
and viewers of MovieLens 100k, ICD-10-CM and three frames of scikit-learn; SmolLM2-135M is the other space for stability, and the mean of
MiniLM's own static rows the baseline that knows no order. What is expected was declared below before any run of this script.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from regraft.datasets.models import encoder_folder, model_folder
from regraft.probe.probes.observatory import Aids, Encoder, FunctionEncoder, ModelEncoder, Observatory, StaticEncoder, Table
from regraft.probe.probes.observatory.measures import rank_test, spearman
from regraft.probe.probes.observatory.properties.base import Found, Outcome
from regraft.probe.probes.observatory.report.page import chart, rows
from regraft.progress import step
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.probe.relational import films, icd, pairs_of_known_overlap, relational_tables
from regraft.reproductions.harness.record import Findings, Ledger

CHANCE, ORDER_FREE = "no relation", "static rows"
SYNONYMS = {
    "player": ["athlete"], "team": ["club"], "position": ["role"], "name": ["title"], "image": ["picture"], "type": ["kind"],
    "summary": ["overview"], "language": ["tongue"], "meaning": ["sense"], "notes": ["remarks"], "location": ["place"],
    "agent": ["drug"], "description": ["explanation"], "chapter": ["section"], "block": ["group"], "age": ["years"],
    "occupation": ["profession"], "gender": ["sex"], "movie_title": ["film_name"], "release_year": ["premiere_year"], "class": ["genre"],
}  # fmt: skip

ROWS = Declared(
    "row order: the mean cosine of column vectors is at most 0.02 below 1", "the ideal", Expectation(low=-0.02), metric="cosine",
    unit="cosine",
)  # fmt: skip
COLUMNS = Declared(
    "column order moves column vectors more than row order does, by an MCV of at least 0.001", "row order", Expectation(low=0.001),
    metric="MCV", unit="MCV",
)  # fmt: skip
FIDELITY = Declared(
    "samples: 75 % of the rows are at least 0.02 nearer to the whole than 25 %", "25 % of the rows", Expectation(low=0.02),
    metric="cosine", unit="cosine",
)  # fmt: skip
HALF = Declared(
    "samples: 50 % of the rows are at least 0.01 nearer to the whole than 25 %", "25 % of the rows", Expectation(low=0.01),
    metric="cosine", unit="cosine",
)  # fmt: skip
FREE = [
    Declared(
        f"negative control: the mean of static rows has a cosine of exactly 1 under {key.replace('-', ' ')}", "the ideal",
        Expectation(low=0, high=0), metric="cosine", unit="cosine",
    )
    for key in ("row-order", "column-order")
]  # fmt: skip
FIRST = Declared(
    "negative control: an encoder of the first row alone is moved by row order by at least 0.05", "the ideal", Expectation(high=-0.05),
    metric="cosine", unit="cosine",
)  # fmt: skip
JOIN = [
    Declared(
        f"joins, {what}: cosine follows containment, Spearman at least 0.7", CHANCE, Expectation(low=0.7), metric="Spearman",
        unit="correlation",
    )
    for what in ("film titles", "diagnoses")
]  # fmt: skip
JOIN_STATIC = Declared(
    "joins, film titles: MiniLM follows containment better than its static rows do", ORDER_FREE, Expectation(low=0.0), metric="Spearman",
    unit="correlation",
)  # fmt: skip
JOIN_CONTROL = Declared(
    "negative control: against the containment of other pairs Spearman is between -0.25 and 0.25", CHANCE,
    Expectation(low=-0.25, high=0.25), metric="Spearman", unit="correlation",
)  # fmt: skip
VARIES = [
    Declared(
        f"{kind}: the step from x to y varies, by at least 0.05", "one translation", Expectation(low=0.05), metric="variance",
        unit="distance²",
    )
    for kind in ("functional dependencies", "pairs without a dependency")
]  # fmt: skip
HIDDEN = Declared(
    "dependencies hardly show: a group without one varies more than one with in at most 75 % of cases", "dependencies do not show",
    Expectation(high=0.25), metric="chance", unit="share",
)  # fmt: skip
STABLE = Declared(
    "MiniLM and SmolLM2 share at most half of a cell's ten neighbours", "the same neighbours", Expectation(high=-0.5),
    metric="overlap", unit="share",
)  # fmt: skip
NAMES = Declared(
    "a synonym in the header moves a column no more than an abbreviation", "abbreviations", Expectation(low=0.0), metric="cosine",
    unit="cosine",
    note="On columns that have both.",
)  # fmt: skip

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    rows: int = 60
    orders: int = 20
    samples: int = 12
    steps: int = 11
    pairs: int = 6
    tables: int | None = None


QUICK = Size(rows=10, orders=3, samples=3, steps=5, pairs=2, tables=4)


@dataclass(frozen=True)
class Rank:
    """Spearman of two amounts a pair of columns; pairs are the documents."""

    x: Floats
    y: Floats
    seeds: int = 1

    @property
    def documents(self) -> int:
        return len(self.x)

    @property
    def value(self) -> float:
        return spearman(self.x, self.y)

    def resample(self, documents: Ints, seeds: Ints) -> float:
        return spearman(self.x[documents], self.y[documents])


@dataclass(frozen=True)
class Above:
    """By how much more than a half a group without a dependency varies more; pairs of columns are the documents."""

    groups: list[tuple[bool, list[float]]]
    seeds: int = 1

    @property
    def documents(self) -> int:
        return len(self.groups)

    @property
    def value(self) -> float:
        return self.resample(np.arange(self.documents), np.zeros(1, dtype=np.int64))

    def resample(self, documents: Ints, seeds: Ints) -> float:
        sides: dict[bool, list[float]] = {True: [], False: []}
        for i in documents:
            sides[self.groups[i][0]] += self.groups[i][1]
        return rank_test(np.array(sides[True]), np.array(sides[False]))[0] - 0.5


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 6 processor minutes in full, less than one with `quick`."""
    size = QUICK if quick else Size()
    tables = relational_tables(size.rows)[: size.tables]
    run = Ledger(f"{len(tables)} tables of up to {size.rows} rows, all-MiniLM-L6-v2")
    minilm = ModelEncoder(str(encoder_folder()), name="MiniLM")
    static = minilm.static()
    encoders: list[Encoder] = [minilm, static]
    probe = Observatory(
        properties=("row-order", "column-order", "fd", "sample", "perturbation", "context"), permutations=size.orders, samples=size.samples,
        chunks=4, most=60, fd_rows=size.rows, draws=200,
    )  # fmt: skip
    seen = probe.compare(encoders, tables, Aids(synonyms=SYNONYMS))
    own, free = (seen.found[one.name] for one in encoders)
    how = f"{size.orders} orders, {size.samples} samples"
    cosine = by_table(own["row-order"], "column", "cosine")
    run.settle(ROWS, how, constant(cosine, 1.0), cosine)
    run.settle(
        COLUMNS, how, by_table(own["row-order"], "column", "MCV"), by_table(own["column-order"], "column", "MCV", like="row-order", of=own)
    )
    quarter, half, most = (by_table(own["sample"], f"{p} %", "cosine") for p in (25, 50, 75))
    run.settle(FIDELITY, how, quarter, most)
    run.settle(HALF, how, quarter, half)
    for declared, key in zip(FREE, ("row-order", "column-order"), strict=True):
        found = by_table(free[key], "column", "cosine")
        run.settle(declared, how, constant(found, 1.0), found)
    found = by_table(first_row(tables, static, size), "column", "cosine")
    run.settle(FIRST, how, constant(found, 1.0), found)
    joined = _joins(run, size, encoders)
    _dependencies(run, own["fd"])
    names = own["perturbation"]
    run.settle(NAMES, "changed headers", *paired(names.get("abbreviation", "cosine"), names.get("synonym", "cosine")))
    _stability(run, size, tables, minilm)
    figures = {one.title: drawn for key, one in seen.properties.items() if (drawn := chart(seen, key, one, static.name)) is not None}
    return Findings(
        Observatory.paper, run.claims, {"figures": list(rows(seen)), "joins": joined}, {"Every figure": list(rows(seen))}, figures
    )


def _joins(run: Ledger, size: Size, encoders: Sequence[Any]) -> list[dict[str, Any]]:
    found = []
    for declared, table, column in zip(JOIN, (films(), icd()), (1, 1), strict=True):
        tables, pairs = pairs_of_known_overlap(table, column, size.steps, size.pairs, seed=0)
        with step(f"{len(pairs)} pairs of columns of {table.name}"):
            seen = Observatory(properties=("join",), most=len(pairs), draws=0).compare(encoders, tables, Aids(joins=pairs))
        ranks = {}
        for name, of in seen.found.items():
            one = of["join"].get("containment", "Spearman")
            assert one is not None
            ranks[name] = Rank(one.values, one.beside["overlap"])
            found.append(
                {"column": f"{table.name}: {table.header[column]}", "encoder": name, "pairs": len(pairs), "spearman": ranks[name].value}
            )
        text = f"{len(pairs)} pairs of 40 values"
        own, free = (ranks[one.name] for one in encoders)
        nothing = Sample.of(np.zeros(len(pairs)))
        run.settle(declared, text, nothing, own)
        if table.name == "films":
            run.settle(JOIN_STATIC, text, free, own)
            run.settle(JOIN_CONTROL, text, nothing, Rank(own.x, np.random.default_rng(0).permutation(own.y)))
    return found


def _dependencies(run: Ledger, found: Found) -> None:
    groups: list[tuple[bool, list[float]]] = []
    for declared, kind in zip(VARIES, ("FD", "no FD"), strict=True):
        one = found.get(kind, "variance")
        if one is None:
            continue
        by_pair: dict[tuple[str, str], list[float]] = {}
        for table, item, value in zip(one.tables, one.items, one.values.tolist(), strict=True):
            by_pair.setdefault((table, item), []).append(value)
        groups += [(kind == "FD", values) for values in by_pair.values()]
        sample = Sample.of([sum(values) for values in by_pair.values()], [len(values) for values in by_pair.values()])
        run.settle(declared, f"{len(by_pair)} pairs of columns, {len(one.values)} groups", constant(sample, 0.0), sample)
    above = Above(groups)
    run.settle(HIDDEN, f"{len(groups)} pairs of columns", Sample.of(np.zeros(len(groups))), above)


def _stability(run: Ledger, size: Size, tables: list[Table], minilm: ModelEncoder) -> None:
    """Texts of at most 256 tokens: the larger model takes its time."""
    small = [ModelEncoder(minilm.checkpoint, name="MiniLM", limit=256), ModelEncoder(str(model_folder()), name="SmolLM2", limit=256)]
    chosen = [table for table in tables if not all(table.is_numeric(j) for j in range(table.width))]
    seen = Observatory(properties=("entity",), draws=0, queries=400).compare(small, chosen)
    one = seen.pairs["MiniLM", "SmolLM2"].get("K = 10", "overlap")
    assert one is not None
    sample = Sample.of(one.values)
    run.settle(STABLE, f"{len(one.values)} cells of {len(chosen)} tables", constant(sample, 1.0), sample)


def first_row(tables: list[Table], static: StaticEncoder, size: Size) -> Found:
    """Row order for an encoder that reads a column's first cell only, by its static rows."""

    def read(table: Table) -> Floats:
        return np.nan_to_num(static.embed([table.head(1).with_header([""] * table.width)], "column")[0])

    probe = Observatory(properties=("row-order",), permutations=size.orders, draws=0)
    return probe.measure(FunctionEncoder(read, name="first row"), tables)["row-order"]


def by_table(found: Found, setting: str, measure: str, like: str | None = None, of: dict[str, Found] | None = None) -> Sample:
    """Sums and counts of an outcome's values, table by table; `like`: only tables that property `like` has too."""
    one = found.get(setting, measure)
    assert one is not None
    names = list(dict.fromkeys(one.tables))
    if like is not None and of is not None:
        other = of[like].get(setting, measure)
        assert other is not None
        names = [name for name in dict.fromkeys(other.tables) if name in names]
    amounts, sizes = [], []
    for name in names:
        values = np.array([v for table, v in zip(one.tables, one.values, strict=True) if table == name and np.isfinite(v)])
        amounts.append(float(values.sum()))
        sizes.append(len(values))
    return Sample.of(amounts, sizes)


def paired(first: Outcome | None, second: Outcome | None) -> tuple[Sample, Sample]:
    """Values of two kinds of change to the same column."""
    assert first is not None
    assert second is not None
    values = [
        {(table, item.partition(" → ")[0]): float(v) for table, item, v in zip(one.tables, one.items, one.values, strict=True)}
        for one in (first, second)
    ]
    both = sorted(values[0].keys() & values[1].keys())
    return Sample.of([values[0][key] for key in both]), Sample.of([values[1][key] for key in both])


def constant(like: Sample, value: float) -> Sample:
    """The same documents with one value for all."""
    return Sample(value * like.sizes, like.sizes)
