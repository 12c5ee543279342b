"""Nodes from files: which values each has, which edges there are, which labels are known.

Enters: values as JSON (a list by node), JSON lines (one node a line) or CSV (a node and a value a row); an edge list; labels as CSV.
Leaves: `Nodes`, and sentences on what is missing.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from regraft.errors import InputError
from regraft.graph.classify.classifier import Nodes, Rows
from regraft.graph.edges import Graph, read_edges
from regraft.graph.labels import read_labels


@dataclass(frozen=True, eq=False)
class Found:
    """`nodes`, and `notes` on them: nodes without values, without edges, without a label."""

    nodes: Nodes
    notes: tuple[str, ...]


def read_nodes(values: str | Path, edges: str | Path, labels: str | Path, *, label: str | None = None) -> Found:
    """The nodes that `edges` and `values` name. `label` : a column of `labels`, else its last; its first is the node.

    Raises `InputError`: a missing or malformed file, a labelled node that is in neither file, fewer than two classes.
    """
    sets = read_values(values)
    graph = read_edges(edges, nodes=list(sets))
    offsets, ids, vocabulary = _numbered(graph, sets)
    known = read_labels(labels, label)
    rows = graph.places(list(known), str(labels))
    classes = sorted(set(known.values()))
    if len(classes) < 2:
        raise InputError(f"{labels}: all labels are {classes[0]!r}: a classifier needs two classes or more")
    found = np.full(graph.size, -1, dtype=np.int64)
    found[rows] = [classes.index(name) for name in known.values()]
    nodes = Nodes(graph, offsets, ids, vocabulary, found, tuple(classes))
    missing = {
        "no value": int((np.diff(offsets) == 0).sum()),
        "no edge": int((graph.degrees == 0).sum()),
        "no label": int((found < 0).sum()),
    }
    return Found(nodes, tuple(f"{count:,} of {graph.size:,} nodes have {what}" for what, count in missing.items() if count))


def read_values(path: str | Path) -> dict[str, list[str]]:
    """Values by node, as texts, each once a node. Raises `InputError`: no such file, of another shape, nothing in it."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file: give values of nodes (.json, .jsonl, .csv)")
    reader = {".json": _of_json, ".jsonl": _of_lines, ".csv": _of_csv}.get(path.suffix)
    if reader is None:
        raise InputError(f"{path}: values of nodes come as .json, .jsonl or .csv")
    found = {node: list(dict.fromkeys(values)) for node, values in reader(path).items()}
    if not any(found.values()):
        raise InputError(f"{path}: no node has a value")
    return found


def _numbered(graph: Graph, sets: dict[str, list[str]]) -> tuple[Rows, Rows, int]:
    index: dict[str, int] = {}
    lists = [[index.setdefault(value, len(index)) for value in sets.get(name, ())] for name in graph.names]
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in lists])]).astype(np.int64)
    return offsets, np.fromiter(chain.from_iterable(lists), dtype=np.int64, count=int(offsets[-1])), len(index)


def _of_json(path: Path) -> dict[str, list[str]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: no JSON: {error}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: needs an object, a list of values by node")
    return {str(node): _texts(path, node, values) for node, values in found.items()}


def _of_lines(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError:
                raise InputError(f"{path}, line {number}: no JSON") from None
            if not isinstance(row, dict) or not {"node", "values"} <= row.keys():
                raise InputError(f'{path}, line {number}: needs {{"node": ..., "values": [...]}}')
            if str(row["node"]) in found:
                raise InputError(f"{path}, line {number}: node {str(row['node'])!r} stands there twice")
            found[str(row["node"])] = _texts(path, row["node"], row["values"])
    return found


def _of_csv(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        next(rows, None)
        for number, row in enumerate(rows, 2):
            if row and len(row) != 2:
                raise InputError(f"{path}, line {number}: {len(row)} columns: write a node and a value a row, under a header")
            if row:
                found.setdefault(row[0], []).append(row[1])
    return found


def _texts(path: Path, node: Any, values: Any) -> list[str]:
    if not isinstance(values, list) or any(isinstance(one, list | dict) or one is None for one in values):
        raise InputError(f"{path}: the values of node {str(node)!r} are no list of texts or numbers")
    return [str(one) for one in values]


def split(labels: Rows, *, seed: int, shares: Sequence[float] = (0.8, 0.1)) -> tuple[Rows, Rows, Rows]:
    """Labelled nodes by chance: to train, to stop by, to test. Raises `InputError`: a part would be empty."""
    known = np.flatnonzero(labels >= 0)
    order = np.random.default_rng(seed).permutation(known)
    bounds = (np.cumsum(shares) * len(order)).astype(int)
    train, validation, test = (np.sort(part) for part in np.split(order, bounds))
    if not (len(train) and len(validation) and len(test)):
        raise InputError(f"{len(known)} labelled nodes are too few to train, to stop by and to test")
    return train, validation, test
