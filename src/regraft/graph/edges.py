"""A graph as every method here takes it, and where it comes from.

Enters: an edge list, or a graph of networkx, PyTorch Geometric or scipy. Leaves: names of nodes and a symmetric matrix, each edge once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from regraft.errors import InputError

Rows = npt.NDArray[np.int64]
BLOCK = 1 << 20  # lines that are read at once


@dataclass(frozen=True, eq=False)
class Graph:
    """An undirected graph without loops.

    Attributes
    ----------
    adjacency : (n, n) CSR of float32, symmetric, ones unless the edges have weights. names : of the nodes, in the order of rows.
    """

    adjacency: sp.csr_array
    names: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.names)

    @property
    def degrees(self) -> Rows:
        """(n,) how many neighbours a node has."""
        found: Rows = np.diff(self.adjacency.indptr).astype(np.int64)
        return found

    def places(self, names: Sequence[str], where: str) -> Rows:
        """Rows of `names`. Raises `InputError`: a name that is no node, said with `where` it stands."""
        row = {name: number for number, name in enumerate(self.names)}
        if lost := [name for name in names if name not in row]:
            raise InputError(f"{where}: {lost[0]!r} is no node of the graph ({len(lost)} such names)")
        found: Rows = np.array([row[name] for name in names], dtype=np.int64)
        return found


def read_edges(path: str | Path, nodes: Sequence[str] = ()) -> Graph:
    """The edge list at `path`: two names a line, split by blanks, tabs or commas, and perhaps a weight; lines with # in front are left out.

    Directions, loops and repetitions are dropped (weights of repetitions: the greatest). `nodes` are there even if they have no edge.
    Raises `InputError`: no such file, nothing in it, a line without two names, a weight that is no positive number.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file: give an edge list, two names of nodes a line")
    index: dict[str, int] = {name: number for number, name in enumerate(nodes)}
    sources: list[Rows] = []
    targets: list[Rows] = []
    weights: list[npt.NDArray[np.float32]] = []
    try:
        blocks = pd.read_csv(
            path, sep=_separator(path), header=None, comment="#", dtype=str, chunksize=BLOCK, keep_default_na=False, engine="c"
        )
        for block in blocks:
            if block.shape[1] < 2 or (block[1] == "").any():
                raise InputError(f"{path}: a line has fewer than two names")
            for column, found in ((0, sources), (1, targets)):
                code, names = pd.factorize(block[column])
                places = np.array([index.setdefault(name, len(index)) for name in names], dtype=np.int64)
                found.append(places[code])
            weights.append(_weights(path, block))
    except pd.errors.EmptyDataError:
        raise InputError(f"{path}: no edges") from None
    except pd.errors.ParserError as error:
        raise InputError(f"{path}: {str(error).split('C error: ')[-1].strip()}: two names a line, and perhaps a weight") from None
    return _graph(np.concatenate(sources), np.concatenate(targets), np.concatenate(weights), tuple(index))


def open_graph(graph: Any) -> Graph:
    """A `Graph` of a path, a networkx graph, PyTorch Geometric's `Data` or a scipy sparse matrix. Raises `InputError` for others."""
    if isinstance(graph, Graph):
        return graph
    if isinstance(graph, str | Path):
        return read_edges(graph)
    if sp.issparse(graph):
        if graph.shape[0] != graph.shape[1]:
            raise InputError(f"a matrix of shape {graph.shape} is no graph: rows and columns are its nodes")
        found = graph.tocoo()
        return _graph(found.row, found.col, np.abs(found.data), tuple(map(str, range(graph.shape[0]))))
    if hasattr(graph, "edge_index"):
        source, target = graph.edge_index.cpu().numpy()
        return _graph(source, target, np.ones(len(source)), tuple(map(str, range(int(graph.num_nodes)))))
    if hasattr(graph, "nodes") and hasattr(graph, "edges"):
        index = {node: number for number, node in enumerate(graph.nodes)}
        pairs = np.array([(index[a], index[b]) for a, b, *_ in graph.edges], dtype=np.int64).reshape(-1, 2)
        return _graph(pairs[:, 0], pairs[:, 1], np.ones(len(pairs)), tuple(map(str, index)))
    raise InputError(f"{type(graph).__name__} is no graph: give an edge list, networkx, PyTorch Geometric's Data or a sparse matrix")


def _graph(source: Any, target: Any, weight: Any, names: tuple[str, ...]) -> Graph:
    apart = source != target
    source, target, weight = source[apart], target[apart], np.asarray(weight, dtype=np.float32)[apart]
    low, high = np.minimum(source, target), np.maximum(source, target)
    order = np.lexsort((-weight, high, low))
    low, high, weight = low[order], high[order], weight[order]
    first = np.ones(len(low), dtype=bool)
    first[1:] = (np.diff(low) != 0) | (np.diff(high) != 0)
    low, high, weight = low[first], high[first], weight[first]
    rows, columns = np.concatenate([low, high]), np.concatenate([high, low])
    matrix = sp.csr_array((np.concatenate([weight, weight]), (rows, columns)), shape=(len(names), len(names)), dtype=np.float32)
    matrix.sort_indices()
    return Graph(matrix, names)


def _separator(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as lines:
        line = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    return "," if "," in line else "\t" if "\t" in line.strip() else r"\s+"


def _weights(path: Path, block: pd.DataFrame) -> npt.NDArray[np.float32]:
    if block.shape[1] < 3:
        return np.ones(len(block), dtype=np.float32)
    found: npt.NDArray[np.float32] = pd.to_numeric(block[2], errors="coerce").to_numpy(np.float32)
    if not ((found > 0) & np.isfinite(found)).all():  # NaN too
        wrong = block[2][~((found > 0) & np.isfinite(found))].iloc[0]
        raise InputError(f"{path}: weight {wrong!r} is no number above 0")
    return found
