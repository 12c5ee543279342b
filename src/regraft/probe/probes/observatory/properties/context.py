"""P8, heterogeneous context: a column alone, and the same column among others. Headers are blank throughout."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from regraft.probe.probe import Measurement
from regraft.probe.probes.observatory.encoder import Encoder
from regraft.probe.probes.observatory.measures import bootstrap, cosines, purity
from regraft.probe.probes.observatory.properties.base import Collection, Floats, Found, Outcome, Property, Values, evenly, mean_vectors
from regraft.probe.probes.observatory.properties.join import Place
from regraft.probe.probes.observatory.tables import Table

SETTINGS = ("subject column", "neighbours", "whole table")
ALONE = "alone"
KMEANS_SEED = 12345
READ = "1: what stands around a column does not change it; below 1: context is mixed in"


@dataclass(frozen=True, kw_only=True)
class Context(Property):
    """Cosine of a column's vector in context with that of the column alone; purity of k-means where types are given.

    Contexts: with the subject column (the first of text), with its immediate neighbours, in the whole table. A column's vector is the mean
    over chunks of three rows; all contexts see the same rows.

    Parameters
    ----------
    types : semantic types by column; k of k-means is their number. Without them all columns are taken and purity is not measured.
    samples : at most so many columns, by draw. chunks : at most so many chunks a column; the paper takes all.
    """

    key = "context"
    title = "Context"
    question = "How much of a column's vector is the table around it?"
    headline = ("whole table", "cosine")
    axis: ClassVar[str] = "cosine with the column alone"

    types: Mapping[Place, str] | None = None
    samples: int = 500
    chunk_rows: int = 3
    chunks: int | None = 8
    draws: int = 500
    seed: int = 0

    def chosen(self, tables: Collection) -> list[Place]:
        places = [(t, c) for t, table in enumerate(tables.tables) if table.width > 1 for c in range(table.width) if any(table.columns[c])]
        if self.types is not None:
            places = [place for place in places if place in self.types]
        drawn = np.random.default_rng(self.seed).permutation(len(places))[: self.samples]
        return [places[i] for i in sorted(drawn.tolist())]

    def cost(self, tables: Collection) -> int:
        return sum(4 * min(self.chunks or 10**9, -(-len(tables.tables[t]) // self.chunk_rows)) for t, _ in self.chosen(tables))

    def measure(self, encoder: Encoder, tables: Collection) -> Found:
        found, raw = Found(), {setting: Values() for setting in SETTINGS}
        vectors: dict[str, dict[Place, Floats]] = {setting: {} for setting in (ALONE, *SETTINGS)}
        for place in self.chosen(tables):
            for setting, vector in self.vectors(encoder, tables, place, found).items():
                vectors[setting][place] = vector
        for setting, values in raw.items():
            for (t, c), vector in vectors[setting].items():
                table = tables.tables[t]
                values.add(table.name, [table.labels[c]], [float(cosines(vectors[ALONE][t, c], vector))])
            if values.values:
                found.outcomes.append(values.outcome(setting, "cosine", READ, draws=self.draws, seed=self.seed))
        if self.types is None:
            found.notes.append("purity not measured: give --types FILE")
        else:
            found.outcomes += [one for setting in vectors if (one := self._purity(setting, vectors[setting], tables)) is not None]
        return found

    def vectors(self, encoder: Encoder, tables: Collection, place: Place, found: Found) -> dict[str, Floats]:
        """The column's vector (d,) alone and in each context that it has."""
        whole, column = tables.tables[place[0]], place[1]
        blank = whole.with_header([""] * whole.width)
        starts = range(0, len(blank), self.chunk_rows)
        parts = [
            blank.take_rows(range(s, min(len(blank), s + self.chunk_rows))) for s in (starts[i] for i in evenly(len(starts), self.chunks))
        ]
        parts = [part.head(rows) for part in parts if (rows := tables.rows(part, "column"))]
        if not parts:
            found.skipped["columns whose table does not fit with one row"] += 1
            return {}
        around = self.around(whole, column)
        texts = [part.take_columns(columns) for columns in around.values() for part in parts]
        embedded = encoder.embed(texts, "column")
        return {
            setting: mean_vectors([one[columns.index(column)] for one in embedded[n * len(parts) : (n + 1) * len(parts)]])
            for n, (setting, columns) in enumerate(around.items())
        }

    def around(self, table: Table, column: int) -> dict[str, list[int]]:
        """Columns of each context; the subject column has none with itself."""
        subject = next((j for j in range(table.width) if any(table.columns[j]) and not table.is_numeric(j)), 0)
        contexts = {
            ALONE: [column],
            "subject column": sorted({subject, column}),
            "neighbours": list(range(max(0, column - 1), min(table.width, column + 2))),
            "whole table": list(range(table.width)),
        }
        return {setting: columns for setting, columns in contexts.items() if setting == ALONE or len(columns) > 1}

    def _purity(self, setting: str, vectors: Mapping[Place, Floats], tables: Collection) -> Outcome | None:
        from sklearn.cluster import KMeans

        assert self.types is not None
        known = [place for place, vector in vectors.items() if np.isfinite(vector).all()]
        labels = [self.types[place] for place in known]
        k = len(set(labels))
        if k < 2 or len(known) <= k:
            return None
        rows = np.stack([vectors[place] for place in known])
        clusters = KMeans(k, n_init=10, random_state=KMEANS_SEED).fit_predict(rows).tolist()
        interval = bootstrap(
            len(known), lambda drawn: purity([clusters[i] for i in drawn], [labels[i] for i in drawn]), draws=self.draws, seed=self.seed
        )
        most = max(labels.count(label) for label in set(labels)) / len(labels)
        measured = Measurement(
            name=f"{setting} purity", value=purity(clusters, labels), unit="share", interval=interval,
            read="1: columns of one type fall together; one cluster for all would have the share of the largest type",
            notes=(f"k = {k} types, {len(known)} columns, the largest type {most:.2f}", "interval: 95 %, draws of columns, clusters kept"),
        )  # fmt: skip
        pure = [float(labels[i] == max(set(inside), key=inside.count)) for i, inside in _inside(clusters, labels)]
        names = [(tables.tables[t].name, tables.tables[t].labels[c]) for t, c in known]
        return Outcome(
            setting=setting, measure="purity", values=np.array(pure), tables=tuple(t for t, _ in names), items=tuple(c for _, c in names),
            measurement=measured,
        )  # fmt: skip


def _inside(clusters: list[int], labels: list[str]) -> list[tuple[int, list[str]]]:
    """For each item the labels of its cluster."""
    members: dict[int, list[str]] = {}
    for cluster, label in zip(clusters, labels, strict=True):
        members.setdefault(cluster, []).append(label)
    return [(i, sorted(members[cluster])) for i, cluster in enumerate(clusters)]
