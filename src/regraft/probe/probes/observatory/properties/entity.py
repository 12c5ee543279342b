"""P6, entity stability: do two encoders give an entity the same neighbours?"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np

from regraft.probe.probes.observatory.encoder import Encoder
from regraft.probe.probes.observatory.measures import Ints, id_overlap, neighbours, overlap
from regraft.probe.probes.observatory.properties.base import Collection, Floats, Found, Property, Values, evenly

READ = {
    "overlap": "1: both give the same nearest cells; 0: none in common",
    "id overlap": "1: the nearest cells of both hold the same texts as often; twice the multiset Jaccard",
}


@dataclass(frozen=True, kw_only=True)
class Entity(Property):
    """Share of the K nearest cells, by cosine, that two spaces have in common, over query cells. No query is its own neighbour.

    A mention is a cell of text, encoded in its table; its id is its text. Cells without a vector in one of the spaces are left out.

    Parameters
    ----------
    queries, mentions : at most so many, evenly over all. neighbours : each K. released : the query counts among its neighbours.
    """

    key = "entity"
    title = "Neighbours of cells"
    question = "Do encoders agree on what is near a cell?"
    headline = ("K = 10", "overlap")
    axis: ClassVar[str] = "share of neighbours in common"

    queries: int = 1000
    mentions: int = 5000
    neighbours: tuple[int, ...] = (1, 5, 10)
    draws: int = 500
    seed: int = 0
    released: bool = False

    def cost(self, tables: Collection) -> int:
        return len(tables.fitted("cell")[0])

    def measure(self, encoder: Encoder, tables: Collection) -> Found:
        return Found(notes=["not measured: stability is between two encoders; give another MODEL"])

    def cells(self, tables: Collection) -> list[tuple[int, int, int, str]]:
        """Mentions: the fitted table's number, row, column, text."""
        fitted = tables.fitted("cell")[0]
        found = [
            (number, row, column, cell)
            for number, table in enumerate(fitted)
            for column in range(table.width)
            if not table.is_numeric(column)
            for row, cell in enumerate(table.columns[column])
            if cell
        ]
        return [found[i] for i in evenly(len(found), self.mentions)]

    def space(self, encoder: Encoder, tables: Collection) -> Floats:
        """Vectors (mentions, d)."""
        fitted, mentions = tables.fitted("cell")[0], self.cells(tables)
        embedded = encoder.embed(fitted, "cell")
        return np.stack([embedded[t][row + 1, column] for t, row, column, _ in mentions]) if mentions else np.empty((0, 1))

    def compare(self, spaces: Mapping[str, Floats], tables: Collection) -> dict[tuple[str, str], Found]:
        """Stability of each pair of spaces, by their names."""
        mentions, fitted = self.cells(tables), tables.fitted("cell")[0]
        known = np.flatnonzero(np.all([np.isfinite(space).all(1) for space in spaces.values()], axis=0)) if mentions else np.empty(0, int)
        ks = [k for k in self.neighbours if k < len(known)]
        if not ks:
            said = f"not measured: only {len(known)} cells of text have vectors in every space"
            return {pair: Found(notes=[said]) for pair in combinations(spaces, 2)}
        queries = np.array(evenly(len(known), self.queries), dtype=np.int64)
        near = {name: neighbours(space[known], queries, max(ks), own=self.released) for name, space in spaces.items()}
        asked = [mentions[known[q]] for q in queries]
        where = [fitted[t].name for t, *_ in asked]
        what = [f"{text} ({fitted[t].labels[column]}, row {row + 1})" for t, row, column, text in asked]
        texts = np.array([mentions[i][3] for i in known], dtype=object)
        found = {pair: self._pair(near[pair[0]], near[pair[1]], ks, where, what, texts) for pair in combinations(spaces, 2)}
        for one in found.values():
            one.skipped["cells without a vector in one of the spaces"] += len(mentions) - len(known)
        return found

    def _pair(self, A: Ints, B: Ints, ks: list[int], where: list[str], what: list[str], texts: np.ndarray) -> Found:
        found = Found()
        for k in ks:
            shares = {"overlap": overlap(A[:, :k], B[:, :k]), "id overlap": id_overlap(texts[A[:, :k]].tolist(), texts[B[:, :k]].tolist())}
            for measure, values in shares.items():
                raw = Values(values.tolist(), list(where), list(what))
                found.outcomes.append(raw.outcome(f"K = {k}", measure, READ[measure], draws=self.draws, seed=self.seed))
        return found
