"""What the eight properties share: tables cut to what fits, raw values with where they come from, figures with intervals.

Enters: an encoder and a `Collection` of tables. Leaves: `Found`: outcomes, and what could not be measured, counted by reason.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from regraft.probe.probe import Measurement
from regraft.probe.probes.observatory.encoder import Encoder
from regraft.probe.probes.observatory.measures import bootstrap_mean
from regraft.probe.probes.observatory.serialise import Level
from regraft.probe.probes.observatory.tables import Table

Floats = npt.NDArray[np.float64]
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
FEW_TABLES = 5  # with fewer, intervals draw columns and not tables


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One figure of one property, with every value behind it.

    Attributes
    ----------
    setting : what was done, such as a level or a fraction. measure : what of it was taken.
    values : (n,) raw values. tables, items : (n,) the table and the column, row or pair that each is of.
    measurement : the figure over all of them. beside : other raw values (n,), such as the overlap that a cosine stands against.
    """

    setting: str
    measure: str
    values: Floats
    tables: tuple[str, ...]
    items: tuple[str, ...]
    measurement: Measurement
    beside: Mapping[str, Floats] = field(default_factory=dict)

    @cached_property
    def quantiles(self) -> dict[str, float]:
        known = self.values[np.isfinite(self.values)]
        return {f"{q:g}": float(np.quantile(known, q)) if len(known) else float("nan") for q in QUANTILES}

    @property
    def label(self) -> str:
        return f"{self.setting}: {self.measure}" if self.setting else self.measure


@dataclass
class Found:
    """Outcomes of one property; `skipped`: how many of what was left out, by reason; `notes`."""

    outcomes: list[Outcome] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def get(self, setting: str, measure: str) -> Outcome | None:
        return next((one for one in self.outcomes if (one.setting, one.measure) == (setting, measure)), None)


@dataclass(frozen=True)
class Collection:
    """`tables`, and what of each fits all of `encoders`, so that every encoder sees the same rows."""

    tables: tuple[Table, ...]
    encoders: tuple[Encoder, ...]
    _fits: dict[tuple[str, Level], int] = field(default_factory=dict, repr=False)

    def rows(self, table: Table, level: Level) -> int:
        """Leading rows of this table, in the order it has now, that fit every encoder."""
        key = (table.digest, level)
        if key not in self._fits:
            rows = len(table)
            for encoder in self.encoders:
                rows = encoder.fit_rows(table.head(rows), level) if rows else 0
            self._fits[key] = rows
        return self._fits[key]

    def fitted(self, level: Level) -> tuple[list[Table], int]:
        """Each table's leading rows that fit, and how many tables have none."""
        found = [table.head(rows) for table in self.tables if (rows := self.rows(table, level))]
        return found, len(self.tables) - len(found)


class Property(ABC):
    """One of the eight. A subclass is a frozen dataclass of what it is to be measured with.

    Class attributes
    ----------------
    key : its name. title : of its chart. question : what it answers. headline : the outcome that stands for it (setting, measure);
    ideal : its best value. axis : what the chart's values are.
    """

    key: ClassVar[str]
    title: ClassVar[str]
    question: ClassVar[str]
    headline: ClassVar[tuple[str, str]]
    ideal: ClassVar[float | None] = 1.0
    axis: ClassVar[str] = "cosine"

    @abstractmethod
    def measure(self, encoder: Encoder, tables: Collection) -> Found:
        """Raw values and figures for one encoder."""

    def cost(self, tables: Collection) -> int:
        """About how many tables will be encoded."""
        return len(tables.tables)


@dataclass
class Values:
    """Raw values as they come in, of one setting and measure."""

    values: list[float] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=list)

    def add(self, table: str, items: Sequence[str], values: npt.NDArray[np.floating] | Sequence[float]) -> None:
        for item, value in zip(items, values, strict=True):
            self.values.append(float(value))
            self.tables.append(table)
            self.items.append(item)

    def outcome(self, setting: str, measure: str, read: str, *, draws: int, seed: int, unit: str = "", pooled: bool = False) -> Outcome:
        """The mean over items (each the mean of its own values), with an interval by drawing tables, or items where tables are few.

        `pooled` : the mean over all values instead.
        """
        values = np.array(self.values, dtype=np.float64)
        known = np.isfinite(values)
        by_item: dict[tuple[str, str], list[float]] = {}
        for name, value, there in zip(zip(self.tables, self.items, strict=True), values, known, strict=True):
            if there:
                by_item.setdefault(name, []).append(float(value))
        parts = [(name, value) for name, some in by_item.items() for value in (some if pooled else [float(np.mean(some))])]
        means = np.array([value for _, value in parts])
        notes = [f"{(~known).sum()} without a value left out"] if not known.all() else []
        several = len({table for table, _ in by_item}) >= FEW_TABLES
        groups: list[Hashable] = [name[0] if several else name for name, _ in parts]
        interval = bootstrap_mean(means, groups, draws=draws, seed=seed)
        if interval:
            notes.append(f"interval: 95 %, {draws} draws of {len(set(groups))} {'tables' if several else 'items'}")
        measured = Measurement(
            name=f"{setting} {measure}".strip(), value=float(means.mean()) if len(means) else float("nan"), unit=unit, read=read,
            interval=interval, notes=tuple(notes),
        )  # fmt: skip
        return Outcome(
            setting=setting, measure=measure, values=values, tables=tuple(self.tables), items=tuple(self.items), measurement=measured
        )


def mean_vectors(parts: Sequence[Floats]) -> Floats:
    """The mean of vectors (d,), without those that are NaN; NaN if all are."""
    known = [part for part in parts if np.isfinite(part).all()]
    return np.asarray(np.mean(known, axis=0) if known else parts[0])


def evenly(count: int, most: int | None) -> list[int]:
    """At most `most` of `count` numbers, evenly apart, the first one included."""
    if most is None or count <= most:
        return list(range(count))
    return sorted({int(i) for i in np.linspace(0, count - 1, most)})
