"""P2, column order insignificance: columns are a set too."""

from dataclasses import dataclass

from regraft.probe.probes.observatory.properties.base import Floats
from regraft.probe.probes.observatory.properties.permuted import Ints, Reordered, put_back
from regraft.probe.probes.observatory.serialise import Level
from regraft.probe.probes.observatory.tables import Table


@dataclass(frozen=True, kw_only=True)
class ColumnOrder(Reordered):
    """Columns of each table in other orders."""

    key = "column-order"
    title = "Column order"
    question = "Do vectors stay when columns are reordered?"
    headline = ("column", "cosine")

    def size(self, table: Table) -> int:
        return table.width

    def reorder(self, table: Table, order: Ints) -> Table:
        return table.take_columns(order.tolist())

    def restore(self, vectors: Floats, order: Ints, level: Level) -> Floats:
        if level == "column":
            return put_back(vectors, order)
        if level == "cell":
            return put_back(vectors.swapaxes(0, 1), order).swapaxes(0, 1)
        return vectors
