"""The graph of a target: one node a parameter tensor or structural operation, and how far nodes are from each other.

Enters: nodes and edges in topological order (see `trace`), and the shapes of a model with that graph. Leaves: each node's 4-D shape, and
the directed shortest distances that the encoder reads. Shapes are not part of a graph: models of one depth and many widths share theirs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

OPERATIONS = (
    "max_pool", "avg_pool", "sep_conv", "dil_conv", "conv", "msa", "cse", "sum", "concat", "input", "bias", "bn", "ln", "pos_enc",
    "glob_avg", "rmsnorm", "gate", "rot_emb",
)  # fmt: skip
Role = Literal["weight", "table", "grid", "scale", "bias", "vector"]
Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
FARTHEST = 1000  # of the distance from node 0


@dataclass(frozen=True)
class Slot:
    """A tensor that a node stands for.

    Attributes
    ----------
    name : of the parameter. role : what it does: "weight" (dense, convolution), "table" (looked up by id), "grid" (one row a patch),
        "scale" and "bias" of one value a channel, "vector" (a factor of each channel).
    transposed : the parameter is kept as (in, out).
    offset : what the model adds to it before use: 1 where a norm multiplies by 1 + weight.
    rows : which rows of it, where a table is predicted in pieces; None: all.
    fused : parameters, this one among them, that are predicted as one, their rows in turn (queries, keys and values).
    """

    name: str
    role: Role
    transposed: bool = False
    offset: float = 0.0
    rows: tuple[int, int] | None = None
    fused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Node:
    """An operation with the tensors that it owns; `shaped_like` is a tensor that another node owns (a tied head's)."""

    operation: str
    slots: tuple[Slot, ...] = ()
    shaped_like: Slot | None = None


@dataclass(frozen=True)
class Graph:
    """Nodes in topological order, node 0 the input; `edges` are (from, to).

    `tokens` are parameters that join the sequence as rows of their own (class, distillation and register tokens): drawn, not predicted.
    """

    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int], ...]
    tokens: frozenset[str] = field(default_factory=frozenset)

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def slots(self) -> dict[str, list[tuple[int, Slot]]]:
        """(node, slot) of each parameter that has one; several where it is predicted in pieces."""
        found: dict[str, list[tuple[int, Slot]]] = {}
        for number, node in enumerate(self.nodes):
            for slot in node.slots:
                found.setdefault(slot.name, []).append((number, slot))
        return found

    def node_shapes(self, shapes: Shapes) -> list[Shape | None]:
        """Each node's shape as (out, in, height, width); None for a node without a tensor."""
        firsts = [node.slots[0] if node.slots else node.shaped_like for node in self.nodes]
        return [None if slot is None else as_4d(slot, shapes) for slot in firsts]

    def distances(self, cutoff: int) -> npt.NDArray[np.int64]:
        """(n, n): length of the shortest directed path up to `cutoff`; 1 a real edge, 0 none."""
        return _distances(self.edges, len(self), cutoff)

    @property
    def from_input(self) -> npt.NDArray[np.int64]:
        """(n,): distance from node 0."""
        found = dijkstra(_matrix(self.edges, len(self)), unweighted=True, indices=0, limit=FARTHEST)
        return np.where(np.isfinite(found), found, 0).astype(np.int64)

    def degrees(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(n,) edges that arrive, and that leave."""
        ends = np.array(self.edges, dtype=np.int64).reshape(-1, 2)
        return np.bincount(ends[:, 1], minlength=len(self)), np.bincount(ends[:, 0], minlength=len(self))

    def in_pieces(self, name: str, rows: int, most: int) -> "Graph":
        """The same graph with the table `name` of `rows` rows as a chain of nodes of at most `most` rows each.

        Pieces differ by where they stand in the chain, so no two of them get the same rows. Only this library's `vocabulary="chunks"`.
        """
        number, slot = self.slots[name][0]
        pieces = math.ceil(rows / most)
        bounds = [(start, min(start + most, rows)) for start in range(0, rows, most)]
        chain = tuple(replace(self.nodes[number], slots=(replace(slot, rows=one),)) for one in bounds)
        moved = {old: old if old < number else old + pieces - 1 for old in range(len(self))}  # what leaves a table leaves its last piece
        edges = [(moved[a], number if b == number else moved[b]) for a, b in self.edges]
        edges += [(number + one, number + one + 1) for one in range(pieces - 1)]
        return Graph(self.nodes[:number] + chain + self.nodes[number + 1 :], tuple(edges), self.tokens)


def as_4d(slot: Slot, shapes: Shapes) -> Shape:
    """The shape of a node's tensor as (out, in, height, width), oriented as the operation reads it (section 2.2)."""
    out, *rest = _own_4d(slot, shapes[slot.name])
    return (sum(_own_4d(slot, shapes[name])[0] for name in slot.fused) if slot.fused else out, *rest)


def rows(slot: Slot, shapes: Shapes) -> npt.NDArray[np.int64]:
    """Which of the node's outputs are this parameter's own, (out,).

    Rows of fused parameters alternate: row j of s comes after those of the others that are less than j / s through. Where a row stands then
    does not depend on the width; below each other, the first key of one width would stand where another width has its sixteenth query.
    """
    sizes = [_own_4d(slot, shapes[name])[0] for name in slot.fused or (slot.name,)]
    mine = slot.fused.index(slot.name) if slot.fused else 0
    j, size = np.arange(sizes[mine]), sizes[mine]
    before = [-(-j * other // size) + ((number < mine) & (j * other % size == 0)) for number, other in enumerate(sizes)]
    place: npt.NDArray[np.int64] = np.sum(before, axis=0, dtype=np.int64)
    return place


def _own_4d(slot: Slot, shape: Shape) -> Shape:
    if slot.role == "grid":
        side = grid_side(shape)
        return (1, shape[-1], side, side)
    if slot.rows is not None:
        shape = (slot.rows[1] - slot.rows[0], *shape[1:])
    if slot.role in ("scale", "bias", "vector"):
        return (math.prod(shape), 1, 1, 1)
    out, into, *kernel = (shape[1], shape[0], *shape[2:]) if slot.transposed else shape
    height = math.prod(kernel[:-1]) if len(kernel) > 1 else 1
    return (out, into, height, kernel[-1]) if len(kernel) > 1 else (out, into, kernel[0] if kernel else 1, 1)


def grid_side(shape: Shape) -> int:
    """Side of the patch grid in a table of (1, T, D): the largest square within T; rows before it belong to class tokens."""
    return math.isqrt(shape[-2])


@lru_cache(maxsize=64)
def _distances(edges: tuple[tuple[int, int], ...], nodes: int, cutoff: int) -> npt.NDArray[np.int64]:
    found = dijkstra(_matrix(edges, nodes), unweighted=True, limit=cutoff)
    return np.where(np.isfinite(found), found, 0).astype(np.int64)


def _matrix(edges: tuple[tuple[int, int], ...], nodes: int) -> csr_matrix:
    ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
    return csr_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(nodes, nodes))
