"""Learn vectors of nodes, keep what was learned, and apply it to another graph.

Enters: an edge list, perhaps labels. Leaves: a folder with `identity.npy`, `position.npy` (names of nodes beside them), what was learned as
safetensors and JSON, and a page.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

from regraft import provenance
from regraft.errors import InputError
from regraft.graph.edges import Graph, read_edges
from regraft.graph.labels import read_labels
from regraft.graph.nodes.embedder import Fitted, Kinds, NodeEmbedder
from regraft.graph.nodes.judge import judge, most_frequent
from regraft.graph.nodes.links import HeldOut, put_aside, rows_of, scored
from regraft.graph.nodes.report import report_of
from regraft.method import parameters, resolve
from regraft.output import atomic_directory, check_output
from regraft.progress import step
from regraft.report import Report

MODEL, WEIGHTS, HELD = "embedder.json", "embedder.safetensors", "held-out.txt"


@dataclass(frozen=True)
class Embedded:
    """`kinds` of vectors of all nodes of `graph`, the `report`, and `figures` as `--json` prints them."""

    graph: Graph
    kinds: Kinds
    report: Report
    figures: dict[str, Any]


def train(
    edges: Path,
    out: Path,
    *,
    method: str = "irwe",
    settings: Mapping[str, Any] | None = None,
    labels: Path | None = None,
    label: str | None = None,
    held_out: float | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Embedded:
    """Learn vectors of the nodes of `edges` and write all into `out`.

    `held_out` : a share of the edges that vectors are learned without, and then judged by; `held-out.txt` has them.
    Raises `InputError`: bad files, settings, or `out`; more edges held out than the graph can go without.
    """
    check_output(out, overwrite=overwrite)
    embedder: NodeEmbedder = resolve("node-embedder", method, settings)
    graph = read_edges(edges)
    held = None if held_out is None else put_aside(graph, held_out, seed)
    graph = graph if held is None else held.graph
    with step(f"{method} on {graph.size:,} nodes"):
        fitted = embedder.fit(graph, seed)
    return _written(fitted, graph, edges, out, labels, label, overwrite, verb="graph nodes train", held=held)


def apply(
    edges: Path, model: Path, out: Path, *, labels: Path | None = None, label: str | None = None, overwrite: bool = False
) -> Embedded:
    """Vectors of the nodes of `edges` by what `train` kept in `model`. Raises `InputError`: bad files, a method that knows one graph."""
    check_output(out, overwrite=overwrite, sources=[model])
    fitted = load(model)
    return _written(fitted, read_edges(edges), edges, out, labels, label, overwrite, verb="graph nodes apply")


def load(folder: str | Path) -> Fitted:
    """What `train` kept. Raises `InputError`: nothing of that kind there, or files that do not fit each other."""
    folder = Path(folder)
    try:
        kept = json.loads((folder / MODEL).read_text(encoding="utf-8"))
        embedder: NodeEmbedder = resolve("node-embedder", kept["method"], kept["settings"])
        return embedder.restored(load_file(folder / WEIGHTS), kept["facts"], kept["seed"])
    except FileNotFoundError:
        raise InputError(f"{folder}: no {MODEL} and {WEIGHTS}: give a folder that `regraft graph nodes train` wrote") from None
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{folder}: {MODEL} and {WEIGHTS} do not fit each other ({type(error).__name__}: {str(error)[:120]})") from None


def save(fitted: Fitted, folder: Path) -> None:
    """Write what `load` reads."""
    method = fitted.method
    settings = {name: getattr(method, name) for name in parameters(type(method))}
    kept = {"method": method.name, "settings": settings, "seed": fitted.seed, "facts": fitted.facts()}
    (folder / MODEL).write_text(json.dumps(kept, indent=1, ensure_ascii=False), encoding="utf-8")
    save_file({name: value.contiguous() for name, value in fitted.tensors().items()}, folder / WEIGHTS)


def _written(
    fitted: Fitted,
    graph: Graph,
    edges: Path,
    out: Path,
    labels: Path | None,
    label: str | None,
    overwrite: bool,
    *,
    verb: str,
    held: HeldOut | None = None,
) -> Embedded:
    with step("vectors of all nodes"):
        kinds = fitted.transform(graph)
    known, classes = _known(graph, labels, label)
    rows = _told(graph, kinds, known, fitted.seed) if known is not None else []
    share = most_frequent(known) if known is not None else 0.0
    links = {}
    if held is not None:
        with step("telling held-out edges from other pairs"):
            links = scored(held, kinds)
    report = report_of(f"Nodes of {edges.name}, by {fitted.method.name}", graph, kinds, rows, classes, known, share, links)
    with atomic_directory(out, overwrite=overwrite) as folder:
        for kind, vectors in kinds.items():
            np.save(folder / f"{kind}.npy", vectors)
            (folder / f"{kind}.txt").write_text("\n".join(graph.names) + "\n", encoding="utf-8")
        if held is not None:
            (folder / HELD).write_text("".join(f"{graph.names[a]}\t{graph.names[b]}\n" for a, b in held.pairs), encoding="utf-8")
        save(fitted, folder)
        report.save_html(folder / "report.html")
        parameters = json.loads((folder / MODEL).read_text())["settings"]
        made = provenance.record(
            provenance.Given(edges),
            verb,
            method=fitted.method.name,
            parameters=parameters if held is None else parameters | {"held_out": len(held.pairs)},
            seed=fitted.seed,
        )
        provenance.save(made, folder, [path.name for path in sorted(folder.iterdir())])
    figures = {"nodes": graph.size, "edges": graph.adjacency.nnz // 2, "kinds": {k: list(v.shape) for k, v in kinds.items()}, "rows": rows}
    return Embedded(graph, kinds, report, figures | ({"links": rows_of(links)} if links else {}))


def _known(graph: Graph, labels: Path | None, label: str | None) -> tuple[Any, list[str]]:
    if labels is None:
        return None, []
    found = read_labels(labels, label)
    rows, classes = graph.places(list(found), str(labels)), sorted(set(found.values()))
    known = np.full(graph.size, -1, dtype=np.int64)
    known[rows] = [classes.index(name) for name in found.values()]
    return known, classes


def _told(graph: Graph, kinds: Kinds, known: Any, seed: int) -> list[dict[str, Any]]:
    """What each kind of vector tells of labels, all of them together, and degrees alone."""
    degrees = resolve("node-embedder", "log-degree").fit(graph, seed).transform(graph)["identity"]
    arms = {**kinds, "log-degree alone": degrees}
    if len(kinds) > 1:
        arms["identity and position"] = np.concatenate(list(kinds.values()), 1)
    rows = []
    for name, vectors in arms.items():
        sample = judge(vectors, known)
        low, high = _interval(sample)
        rows.append({"vectors": name, "accuracy": sample.value, "low": low, "high": high})
    return rows


def _interval(sample: Any) -> tuple[float, float]:
    draw = np.random.default_rng(0)
    drawn = [
        sample.resample(draw.integers(0, sample.documents, sample.documents), draw.integers(0, sample.seeds, sample.seeds))
        for _ in range(1000)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
