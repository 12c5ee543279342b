"""P1, row order insignificance: rows are a set, so their order should not show."""

from dataclasses import dataclass

import numpy as np

from regraft.probe.probes.observatory.properties.base import Floats
from regraft.probe.probes.observatory.properties.permuted import Ints, Reordered, put_back
from regraft.probe.probes.observatory.serialise import Level
from regraft.probe.probes.observatory.tables import Table


@dataclass(frozen=True, kw_only=True)
class RowOrder(Reordered):
    """Rows of each table in other orders. `released`: only as many leading rows as there are columns, as the released script did."""

    key = "row-order"
    title = "Row order"
    question = "Do vectors stay when rows are reordered?"
    headline = ("column", "cosine")

    def size(self, table: Table) -> int:
        return len(table)

    def prepare(self, table: Table) -> Table:
        return table.head(table.width) if self.released else table

    def reorder(self, table: Table, order: Ints) -> Table:
        return table.take_rows(order.tolist())

    def restore(self, vectors: Floats, order: Ints, level: Level) -> Floats:
        if level == "row":
            return put_back(vectors, order)
        if level == "cell":  # the header stays first
            return np.concatenate([vectors[:1], put_back(vectors[1:], order)])
        return vectors
