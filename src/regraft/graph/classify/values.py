"""Sets of values of different sizes, a node each: sums over them and over their rows."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from regraft.graph.classify.classifier import Rows

Norm = Literal["none", "S", "pairs"]


class Bags:
    """The values of n nodes.

    Attributes
    ----------
    values : (all,) ids, node after node. offsets : (n + 1,) where each node begins. owners : (all,) whose a value is. counts : of them.
    """

    def __init__(self, offsets: Rows, values: Rows) -> None:
        self.offsets, self.values = torch.from_numpy(offsets), torch.from_numpy(values)
        sizes = self.offsets.diff()
        self.owners = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        self.counts = sizes.float()

    def sums(self, table: Tensor) -> Tensor:
        """(n, d) sum of the rows of `table` (vocabulary, d) that each node has."""
        return embedding_bag(self.values, table, self.offsets, mode="sum", include_last_offset=True)

    def sums_of(self, rows: Tensor) -> Tensor:
        """(n, d) sum over each node of `rows` (all, d), one a value."""
        return rows.new_zeros(len(self.counts), rows.shape[1]).index_add(0, self.owners, rows)


def pairs(bags: Bags, table: Tensor, norm: Norm = "none") -> Tensor:
    """(n, d) sum of products of all pairs of a node's vectors: half of sum squared minus sum of squares; 0 without one (section 3.2)."""
    found = (bags.sums(table).square() - bags.sums(table.square())) / 2
    if norm == "none":
        return found
    counts = bags.counts if norm == "S" else bags.counts * (bags.counts - 1) / 2
    return found / counts.clamp(min=1).unsqueeze(1)


def probed(bags: Bags, table: Tensor, probe: float) -> Tensor:
    """(values of all nodes, d) rows after (ones + `probe` I) / (S + `probe`), without building it (section 3.3)."""
    sums = bags.sums(table)
    total = (bags.counts + probe).unsqueeze(1)
    return (probe * table[bags.values] + sums[bags.owners]) / total[bags.owners]
