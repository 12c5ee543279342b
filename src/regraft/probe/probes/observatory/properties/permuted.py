"""Vectors of reordered tables beside those of the original: what row order (P1) and column order (P2) share."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations as every_permutation

import numpy as np
import numpy.typing as npt

from regraft.probe.probes.observatory.encoder import Encoder
from regraft.probe.probes.observatory.measures import cosines, mcv
from regraft.probe.probes.observatory.properties.base import Collection, Floats, Found, Property, Values
from regraft.probe.probes.observatory.serialise import Level
from regraft.probe.probes.observatory.tables import Table

Ints = npt.NDArray[np.int64]
READ = {
    "cosine": "1: the order does not matter; below 1: vectors move when it changes",
    "MCV": "0: the order does not matter; the spread of a vector over orders by its length",
}


@dataclass(frozen=True, kw_only=True)
class Reordered(Property):
    """Cosine of each vector with that of the original order, and MCV over the original and all orders.

    Parameters
    ----------
    permutations : distinct orders a table beside the original; all of them where there are fewer. The paper takes 1,000.
    levels : of vectors. released : reorder as the released code did (see `Observatory`).
    """

    permutations: int = 50
    levels: tuple[Level, ...] = ("column",)
    draws: int = 500
    seed: int = 0
    released: bool = False

    @abstractmethod
    def size(self, table: Table) -> int:
        """How many rows or columns there are to reorder."""

    @abstractmethod
    def reorder(self, table: Table, order: Ints) -> Table: ...

    @abstractmethod
    def restore(self, vectors: Floats, order: Ints, level: Level) -> Floats:
        """Vectors of a reordered table, in the original order."""

    def prepare(self, table: Table) -> Table:
        """What is reordered of a table."""
        return table

    def cost(self, tables: Collection) -> int:
        found = 0
        for level in self.levels:
            for table in tables.fitted(level)[0]:
                found += 1 + min(self.permutations, math.factorial(min(self.size(self.prepare(table)), 12)) - 1)
        return found

    def measure(self, encoder: Encoder, tables: Collection) -> Found:
        found = Found()
        for level in (level for level in self.levels if level in encoder.levels):
            raw = {"cosine": Values(), "MCV": Values()}
            fitted, without = tables.fitted(level)
            found.skipped["tables of which no row fits"] += without
            for table in fitted:
                whole = self.prepare(table)
                if self.size(whole) < 2:
                    found.skipped["tables with one row or column"] += 1
                    continue
                population = self.vectors(encoder, whole, level)
                items = names_of(whole, level)
                flat = population.reshape(len(population), len(items), -1)
                raw["MCV"].add(table.name, items, mcv(flat.swapaxes(0, 1)))
                for one in flat[1:]:
                    raw["cosine"].add(table.name, items, cosines(flat[0], one))
            for measure, values in raw.items():
                if values.values:
                    found.outcomes.append(values.outcome(level, measure, READ[measure], draws=self.draws, seed=self.seed))
        return found

    def vectors(self, encoder: Encoder, table: Table, level: Level) -> Floats:
        """(1 + orders, ...) vectors of the original, then of every order, put back in place."""
        orders = list(distinct_orders(self.size(table), self.permutations, self.seed))
        embedded = encoder.embed([table, *(self.reorder(table, order) for order in orders)], level)
        return np.stack([embedded[0], *(self.restore(v, order, level) for v, order in zip(embedded[1:], orders, strict=True))])


def distinct_orders(size: int, most: int, seed: int) -> Iterator[Ints]:
    """Distinct orders of `size` things, none of them the original; all of them if there are no more than `most`."""
    if size < 9 and math.factorial(size) - 1 <= most:
        yield from (np.array(order, dtype=np.int64) for order in list(every_permutation(range(size)))[1:])
        return
    generator, seen = np.random.default_rng(seed), {tuple(range(size))}
    while len(seen) <= most:
        order = generator.permutation(size).astype(np.int64)
        if tuple(order) not in seen:
            seen.add(tuple(order))
            yield order


def put_back(vectors: Floats, order: Ints) -> Floats:
    """Undo ``vectors[order]``."""
    found = np.empty_like(vectors)
    found[order] = vectors
    return found


def names_of(table: Table, level: Level) -> list[str]:
    """One name a vector of this level, in the order of the flattened array."""
    if level == "column":
        return list(table.labels)
    if level == "row":
        return [f"row {number + 1}" for number in range(len(table))]
    if level == "table":
        return ["table"]
    lines = ["header", *(f"row {number + 1}" for number in range(len(table)))]
    return [f"{line}, {label}" for line in lines for label in table.labels]
