"""P5, sample fidelity: a sample of a table's rows should give the vector of the whole."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from regraft.probe.probes.observatory.encoder import Encoder
from regraft.probe.probes.observatory.measures import cosines, mcv
from regraft.probe.probes.observatory.properties.base import Collection, Found, Property, Values
from regraft.probe.probes.observatory.properties.permuted import READ
from regraft.probe.probes.observatory.tables import Table


@dataclass(frozen=True, kw_only=True)
class Sample(Property):
    """Cosine of column vectors of sampled rows with those of all rows that fit, and MCV over these and all samples.

    Parameters
    ----------
    fractions : of the rows, without replacement, in their order; at least one row. samples : distinct ones a table and fraction, all of
        them where there are fewer. The paper takes 1,000.
    """

    key = "sample"
    title = "Samples of rows"
    question = "Does a part of the rows give the vector of all?"
    headline = ("50 %", "cosine")

    fractions: tuple[float, ...] = (0.25, 0.5, 0.75)
    samples: int = 50
    draws: int = 500
    seed: int = 0

    def cost(self, tables: Collection) -> int:
        fitted = tables.fitted("column")[0]
        return sum(1 + min(self.samples, math.comb(len(t), _rows(len(t), p))) for t in fitted for p in self.fractions)

    def measure(self, encoder: Encoder, tables: Collection) -> Found:
        found = Found()
        fitted, without = tables.fitted("column")
        found.skipped["tables of which no row fits"] += without
        found.skipped["tables with one row or column"] += sum(len(table) < 2 for table in fitted)
        for fraction in self.fractions:
            raw = {"cosine": Values(), "MCV": Values()}
            for table in (table for table in fitted if len(table) > 1):
                parts = [table.take_rows(rows) for rows in distinct_samples(table, fraction, self.samples, self.seed)]
                population = np.stack(encoder.embed([table, *parts], "column"))
                raw["MCV"].add(table.name, table.labels, mcv(population.swapaxes(0, 1)))
                for one in population[1:]:
                    raw["cosine"].add(table.name, table.labels, cosines(population[0], one))
            setting = f"{100 * fraction:g} %"
            for measure, values in raw.items():
                if values.values:
                    read = (
                        READ[measure]
                        .replace("the order does", "which rows does")
                        .replace("orders", "samples")
                        .replace("it changes", "rows go")
                    )
                    found.outcomes.append(values.outcome(setting, measure, read, draws=self.draws, seed=self.seed))
        return found


def _rows(count: int, fraction: float) -> int:
    return min(count, max(1, round(fraction * count)))


def distinct_samples(table: Table, fraction: float, most: int, seed: int) -> Iterator[list[int]]:
    """Distinct sets of rows, in their order."""
    count, size = len(table), _rows(len(table), fraction)
    wanted = min(most, math.comb(count, size))
    generator, seen = np.random.default_rng(seed), set[tuple[int, ...]]()
    while len(seen) < wanted:
        rows = tuple(sorted(generator.choice(count, size, replace=False).tolist()))
        if rows not in seen:
            seen.add(rows)
            yield list(rows)
