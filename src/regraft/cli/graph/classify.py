"""`regraft graph classify`: classes of nodes that have sets of values."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.graph.group import group


@verb(group=group)
def classify(
    *,
    nodes: Annotated[Path, typer.Option("--nodes", help="Values of nodes: .json, .jsonl or .csv.")],
    edges: Annotated[Path, typer.Option("--edges", help="Edge list, two names a line.")],
    labels: Annotated[Path, typer.Option("--labels", help="CSV with a header: the node first, its class last.")],
    label: Annotated[str | None, typer.Option("--label", help="Column of the class, if it is not the last.")] = None,
    method: Annotated[str, typer.Option("--method", help="Names separated by commas, or all.")] = "catgcn",
    settings: Annotated[list[str] | None, typer.Option("--set", help="A hyper-parameter, method.field=value. Repeatable.")] = None,
    epochs: Annotated[int, typer.Option("--epochs", help="At most so many; the best state is kept.", min=1)] = 200,
    seeds: Annotated[int, typer.Option("--seeds", help="How many times each is trained.", min=1)] = 3,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the split and of everything random.", min=0)] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory for predictions, the page and the JSON; the same call resumes.")
    ] = None,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Learn the classes of labelled nodes, and say what every node may be, beside simple graph convolution."""
    from regraft.graph.classify.data import read_nodes
    from regraft.graph.classify.job import Plan
    from regraft.graph.classify.job import classify as run
    from regraft.method.settings_text import by_method

    names = [name.strip() for name in method.split(",") if name.strip()]
    found = read_nodes(nodes, edges, labels, label=label)
    done = run(found, methods=names, settings=by_method(settings or []), plan=Plan(epochs, seeds, seed), out=out)
    if not json_output:
        done.report.print()
    return {"rows": done.rows, "notes": list(found.notes)}
