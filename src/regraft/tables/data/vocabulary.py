"""Values of a field, counted block by block."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def texts(column: pa.ChunkedArray) -> pa.Array:
    """A column as text; what is missing, or NaN, is an empty text, a value of its own."""
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    return pc.fill_null(column.cast(pa.string()), "").combine_chunks()


class Counted:
    """How often each value of a field occurs; new blocks are added to the rest once they hold as much as it."""

    def __init__(self) -> None:
        self._parts: list[pa.Table] = []

    def add(self, column: pa.ChunkedArray) -> None:
        found = pc.value_counts(texts(column))
        self._parts.append(pa.table({"value": found.field("values"), "count": found.field("counts")}))
        if len(self._parts) > 1 and sum(map(len, self._parts[1:])) >= len(self._parts[0]):
            self._merge()

    def _merge(self) -> None:
        if len(self._parts) > 1:
            whole = pa.concat_tables(self._parts).group_by("value").aggregate([("count", "sum")])
            self._parts = [pa.table({"value": whole["value"], "count": whole["count_sum"]})]

    def vocabulary(self, least: int) -> tuple[pa.Array, npt.NDArray[np.int64]]:
        """Values that occur `least` times, in the order of their texts, and counts of ids (n + 1,): first of all others."""
        self._merge()
        table = self._parts[0].sort_by("value")
        often = pc.greater_equal(table["count"], least)
        kept = table.filter(often)
        rest = int(pc.sum(table["count"]).as_py() - (pc.sum(kept["count"]).as_py() or 0))
        return kept["value"].combine_chunks(), np.concatenate([[rest], kept["count"].to_numpy()]).astype(np.int64)
