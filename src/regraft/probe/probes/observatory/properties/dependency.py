"""P4, functional dependencies: where X decides Y, does the same translation lead from x to y wherever the two stand?"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from regraft.probe.probe import Measurement
from regraft.probe.probes.observatory.encoder import Encoder
from regraft.probe.probes.observatory.measures import bootstrap, rank_test, unary_dependencies
from regraft.probe.probes.observatory.properties.base import Collection, Floats, Found, Outcome, Property, Values
from regraft.probe.probes.observatory.tables import Table

READ = {
    "FD": "0: the step from x to y is one translation; clearly below the pairs without a dependency: the dependency shows",
    "no FD": "what varies anyway, where x does not decide y",
}


@dataclass(frozen=True, kw_only=True)
class Dependency(Property):
    r"""Variance of :math:`\lVert E(x_i) - E(y_i) \rVert_2` over the rows of a group with the same (x, y), cells encoded in their rows.

    Dependencies X -> Y are found exactly, on the first `rows` rows, between columns of text; determinants that are keys have no groups.
    Beside them stand pairs of the same determinants without a dependency, grouped by x. A group counts from two rows on; the figure is the
    mean over groups.

    Parameters
    ----------
    window : rows to either side that are encoded with a row; fewer where they do not fit.
    normalise : distances by their mean over the pair of columns. INFERRED: the variance is the unbiased one.
    pairs : at most so many of either kind a table, by draw. released : groups of one row count as 0, as in the released code.
    """

    key = "fd"
    title = "Functional dependencies"
    question = "Is a dependency one translation from x to y?"
    headline = ("FD against none", "rank")
    axis: ClassVar[str] = "variance of the distance from x to y within a group"

    window: int = 2
    rows: int = 1000
    pairs: int = 20
    normalise: bool = False
    draws: int = 500
    seed: int = 0
    released: bool = False

    def cost(self, tables: Collection) -> int:
        return sum(min(len(table), self.rows) for table in tables.tables if any(self.dependencies(table)))

    def dependencies(self, table: Table) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Pairs of text columns with a dependency, and pairs of the same determinants without."""
        head = table.head(self.rows)
        texts = [j for j in range(table.width) if not table.is_numeric(j)]
        generator = np.random.default_rng(self.seed)
        kinds = []
        for found in unary_dependencies([head.columns[j] for j in texts]):
            chosen = sorted(generator.permutation(len(found))[: self.pairs].tolist())
            kinds.append([(texts[found[i][0]], texts[found[i][1]]) for i in chosen])
        return kinds[0], kinds[1]

    def measure(self, encoder: Encoder, tables: Collection) -> Found:
        found, raw = Found(), {"FD": Values(), "no FD": Values()}
        if "cell" not in encoder.levels:
            found.notes.append(f"not measured: {encoder.name} gives no vectors of cells")
            return found
        for table in tables.tables:
            pairs = dict(zip(raw, self.dependencies(table), strict=True))
            if not pairs["FD"]:
                found.skipped["tables without a dependency between columns of text"] += 1
                continue
            groups = {kind: [(x, y, _groups(table.head(self.rows), x, y, self.released)) for x, y in some] for kind, some in pairs.items()}
            wanted = sorted({i for some in groups.values() for *_, found_groups in some for group in found_groups for i in group})
            cells = self.cells(encoder, table, wanted, tables, found)
            for kind, some in groups.items():
                for x, y, members in some:
                    spread = self.spread(cells, x, y, members)
                    raw[kind].add(table.name, [f"{table.labels[x]} → {table.labels[y]}"] * len(spread), spread)
        if not raw["FD"].values:
            found.notes.append("not measured: no table has a dependency X → Y between two columns of text with X repeated")
            return found
        for kind, values in raw.items():
            if values.values:
                found.outcomes.append(
                    values.outcome(kind, "variance", READ[kind], draws=self.draws, seed=self.seed, unit="distance²", pooled=True)
                )
        found.outcomes += self._compared(*(found.get(kind, "variance") for kind in raw))
        return found

    def cells(self, encoder: Encoder, table: Table, wanted: Sequence[int], tables: Collection, found: Found) -> dict[int, Floats]:
        """Vectors (columns, d) of the cells of each wanted row, encoded with the rows around it."""
        windows, rows = [], []
        for row in wanted:
            for reach in range(self.window, -1, -1):
                first = max(0, row - reach)
                part = table.take_rows(range(first, min(len(table), row + reach + 1)))
                if tables.rows(part, "cell") == len(part):
                    windows.append(part)
                    rows.append((row, row - first))
                    break
            else:
                found.skipped["rows that do not fit"] += 1
        embedded = encoder.embed(windows, "cell")
        return {row: vectors[place + 1] for (row, place), vectors in zip(rows, embedded, strict=True)}

    def spread(self, cells: dict[int, Floats], x: int, y: int, groups: Sequence[Sequence[int]]) -> list[float]:
        """Variance of the distance in each group that has at least two rows with vectors."""
        distances = {
            i: float(np.linalg.norm(cells[i][x] - cells[i][y]))
            for group in groups
            for i in group
            if i in cells and np.isfinite(cells[i][[x, y]]).all()
        }
        scale = float(np.mean(list(distances.values()))) if self.normalise and distances else 1.0
        found = []
        for group in groups:
            values = [distances[i] / (scale or 1.0) for i in group if i in distances]
            if len(values) >= 2:
                found.append(float(np.var(values, ddof=1)))
            elif self.released and values:
                found.append(0.0)
        return found

    def _compared(self, lower: Outcome | None, higher: Outcome | None) -> list[Outcome]:
        """The chance that a group without a dependency varies more than one with."""
        if lower is None or higher is None:
            return []
        chance, p = rank_test(lower.values, higher.values)
        both = np.concatenate([lower.values, higher.values])
        tables = (*lower.tables, *higher.tables)
        kind = np.arange(len(both)) < len(lower.values)
        items = [f"{table}: {item}" for table, item in zip(tables, (*lower.items, *higher.items), strict=True)]

        def again(drawn: np.ndarray) -> float:
            return rank_test(both[drawn][kind[drawn]], both[drawn][~kind[drawn]])[0]

        interval = bootstrap(len(both), again, items, draws=min(self.draws, 200), seed=self.seed)
        measured = Measurement(
            name="FD against none", value=chance, unit="chance", interval=interval,
            read="1: every group without a dependency varies more, so dependencies show; 0.5: they do not",
            notes=(f"Mann-Whitney p = {p:.2g}, taking groups as independent", "interval: 95 %, draws of pairs of columns"),
        )  # fmt: skip
        return [Outcome(
            setting="FD against none", measure="rank", values=np.array([chance]), tables=("all",), items=("all",), measurement=measured
        )]  # fmt: skip


def _groups(table: Table, x: int, y: int, singles: bool) -> list[list[int]]:
    """Rows by x, without those where a cell is empty; groups of one only if asked. Where X decides Y these are the groups of (x, y) too."""
    found: dict[str, list[int]] = defaultdict(list)
    for number, (left, right) in enumerate(zip(table.columns[x], table.columns[y], strict=True)):
        if left and right:
            found[left].append(number)
    return [rows for rows in found.values() if len(rows) > 1 or singles]
