"""What random walks say of a node: which shapes they have, which degrees they meet, where they go.

Enters: a graph. Leaves: counts of anonymous walks, mean degrees by step, a random projection of visits; without training,
of any graph. Names of nodes decide which row projects them, so that old nodes keep theirs when new ones come.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from regraft.graph.edges import Graph
from regraft.graph.walks import Walks, anonymous, codes, visits, walk

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shapes:
    """What training has seen, kept for other graphs.

    Attributes
    ----------
    patterns : (shapes, length + 1) anonymous walks, in the order of their columns. bounds : (bins - 1,) of degrees.
    """

    patterns: Walks
    bounds: Floats


@dataclass(frozen=True, eq=False)
class Walked:
    """The walks of a graph, `each` a node, node after node."""

    graph: Graph
    walks: Walks
    each: int

    @classmethod
    def of(cls, graph: Graph, length: int, each: int, seed: int) -> "Walked":
        return cls(graph, walk(graph, np.repeat(np.arange(graph.size), each), length, seed=seed), each)

    def shapes(self, bins: int) -> Shapes:
        """Every pattern that occurs, and bounds that part the degrees into `bins` of equal numbers of nodes."""
        patterns = anonymous(self.walks)
        _, first = np.unique(codes(patterns), return_index=True)
        bounds = np.unique(np.quantile(self.graph.degrees, np.linspace(0, 1, bins + 1)[1:-1]))
        return Shapes(patterns[np.sort(first)], bounds.astype(np.float32))

    def counts(self, shapes: Shapes) -> Floats:
        """(nodes, shapes) share of a node's walks that have each pattern; patterns that were not seen in training are dropped."""
        known = codes(shapes.patterns)
        order = np.argsort(known)
        met = codes(anonymous(self.walks))
        place = np.minimum(np.searchsorted(known[order], met), len(known) - 1)
        hit = known[order][place] == met
        rows = np.repeat(np.arange(self.graph.size), self.each)[hit]
        matrix = sp.csr_array((np.ones(len(rows)), (rows, order[place[hit]])), shape=(self.graph.size, len(known)))
        found: Floats = (matrix.toarray() / self.each).astype(np.float32)
        return found

    def degrees(self, shapes: Shapes) -> Floats:
        """(nodes, (length + 1) x bins) at each step, the share of walks that are at a node of each bin of degrees."""
        bins = len(shapes.bounds) + 1
        binned = np.digitize(self.graph.degrees, shapes.bounds)[self.walks].reshape(self.graph.size, self.each, -1)
        steps = binned.shape[2]
        found = np.zeros((self.graph.size, steps, bins), dtype=np.float32)
        rows = np.arange(self.graph.size)
        for step in range(steps):
            for number in range(self.each):
                found[rows, step, binned[:, number, step]] += 1
        return (found.reshape(self.graph.size, -1) / self.each).astype(np.float32)

    def places(self, dim: int, seed: int) -> Floats:
        """(nodes, dim) where a node's walks go: its visits, of length one, times a row of normal numbers of variance 1 / dim a node."""
        seen = visits(self.walks, self.each, self.graph.size)
        lengths = np.sqrt(seen.multiply(seen).sum(1))
        projected = seen @ projection(self.graph.names, dim, seed)
        found: Floats = (projected / lengths[:, None]).astype(np.float32)
        return found


def projection(names: tuple[str, ...], dim: int, seed: int) -> Floats:
    """(nodes, dim) normal numbers of variance 1 / dim, a row a name: the same for a name in any graph."""
    rows = np.empty((len(names), dim), dtype=np.float32)
    for number, name in enumerate(names):
        key = int.from_bytes(hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest(), "little")
        rows[number] = np.random.Generator(np.random.SFC64(key)).standard_normal(dim, dtype=np.float32)
    return rows / np.float32(np.sqrt(dim))
