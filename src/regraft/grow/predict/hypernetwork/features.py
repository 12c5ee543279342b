"""What the encoder reads of a graph: whole numbers for each node and each pair of nodes, padded to a batch.

Enters: graphs with the shapes of their models. Leaves: one `Batch`. Shapes snap to the nearest entry of a fixed vocabulary (section 2.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from regraft.grow.predict.graph import FARTHEST, OPERATIONS, Graph, Shape, Shapes

SPATIAL = tuple(range(1, 17))
MOST_EDGES = 100  # of a node, that are told apart
OFFSET = 2  # of an edge's value; 0 is a padded pair


@lru_cache(maxsize=16)
def channels(classes: tuple[int, ...]) -> tuple[int, ...]:
    """Channel counts that have an embedding: 1, 3, 8 to 64 by 8, to 4096 by 16, to 8192 by 32, sizes of classifiers and vocabularies."""
    return tuple(sorted({1, 3, *classes, *range(8, 65, 8), *range(64, 4097, 16), *range(4096, 8193, 32)}))


def snap(size: int, vocabulary: Sequence[int]) -> int:
    """Index of the entry nearest to `size`, the smaller of two; past the end, the last."""
    return int(np.abs(np.asarray(vocabulary) - size).argmin())


def shape_index(shape: Shape | None, classes: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Indices of (out, in, height, width); the entry after the last of each where a node has no shape."""
    known = channels(classes)
    if shape is None:
        return (len(known), len(known), len(SPATIAL), len(SPATIAL))
    return (snap(shape[0], known), snap(shape[1], known), snap(shape[2], SPATIAL), snap(shape[3], SPATIAL))


@dataclass(frozen=True)
class Batch:
    """Graphs, padded to the largest.

    Attributes
    ----------
    operation, arrive, leave, depth : (m, n) operation, in-degree, out-degree, distance from node 0. shape : (m, n, 4).
    pairs : (m, n, n) index into `values`. values : (p, 2) every pair of distances (u to v, v to u) that occurs, shifted by 2; 0 is padding.
    mask : (m, n) True at nodes.
    """

    operation: torch.Tensor
    arrive: torch.Tensor
    leave: torch.Tensor
    depth: torch.Tensor
    shape: torch.Tensor
    pairs: torch.Tensor
    values: torch.Tensor
    mask: torch.Tensor

    def to(self, device: str | torch.device) -> "Batch":
        return Batch(**{name: tensor.to(device) for name, tensor in vars(self).items()})


def batch(graphs: Sequence[tuple[Graph, Shapes]], *, cutoff: int, classes: tuple[int, ...], pad: int = 0) -> Batch:
    """Features of graphs with their shapes; `pad` is how many nodes each has at least."""
    n = max(pad, *(len(graph) for graph, _ in graphs))
    m, codes = len(graphs), np.zeros((len(graphs), n, n), dtype=np.int64)
    numbers = np.zeros((5, m, n), dtype=np.int64)  # operation, arrive, leave, depth, mask
    shape = np.zeros((m, n, 4), dtype=np.int64)
    base = cutoff + OFFSET + 1
    for one, (graph, shapes) in enumerate(graphs):
        size = len(graph)
        arrive, leave = graph.degrees()
        numbers[0, one, :size] = [OPERATIONS.index(node.operation) for node in graph.nodes]
        numbers[1, one, :size], numbers[2, one, :size] = arrive.clip(max=MOST_EDGES), leave.clip(max=MOST_EDGES)
        numbers[3, one, :size] = graph.from_input.clip(max=FARTHEST)
        numbers[4, one, :size] = 1
        shape[one, :size] = [shape_index(found, classes) for found in graph.node_shapes(shapes)]
        away = graph.distances(cutoff) + OFFSET
        codes[one, :size, :size] = away * base + away.T
    found, places = np.unique(codes, return_inverse=True)
    values = np.stack([found // base, found % base], axis=1)
    operation, entering, leaving, depth, mask = map(torch.from_numpy, numbers)
    pairs = torch.from_numpy(places.reshape(codes.shape))
    return Batch(operation, entering, leaving, depth, torch.from_numpy(shape), pairs, torch.from_numpy(values), mask.bool())
