"""`regraft graph nodes`: vectors of nodes, learned on one graph and applied to others."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.graph.group import nodes

Labels = Annotated[
    Path | None, typer.Option("--labels", help="CSV with a header, the node first, its class last: what vectors tell of it is measured.")
]
Label = Annotated[str | None, typer.Option("--label", help="Column of the class, if it is not the last.")]
Out = Annotated[Path, typer.Option("--out", help="Directory to write; appears whole or not at all.")]


@verb(group=nodes)
def train(
    edges: Annotated[Path, typer.Argument(help="Edge list, two names a line.", metavar="EDGES")],
    *,
    method: Annotated[str, typer.Option("--method", help="See `regraft methods --family node-embedder`.")] = "irwe",
    settings: Annotated[list[str] | None, typer.Option("--set", help="A hyper-parameter, field=value. Repeatable.")] = None,
    labels: Labels = None,
    label: Label = None,
    held_out: Annotated[
        float | None, typer.Option("--held-out", help="A share of the edges to learn without: how well vectors tell them is measured.")
    ] = None,
    seed: o.Seed = 0,
    out: Out,
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Learn vectors of the nodes of EDGES: which role each has, and where it is."""
    from regraft.graph.nodes import job
    from regraft.method import parse_settings

    given = parse_settings(settings or [])
    done = job.train(
        edges, out, method=method, settings=given, labels=labels, label=label, held_out=held_out, seed=seed, overwrite=overwrite
    )
    return _told(done, out, json_output)


@verb(group=nodes)
def apply(
    edges: Annotated[Path, typer.Argument(help="Edge list of a graph that may be another one.", metavar="EDGES")],
    *,
    model: Annotated[Path, typer.Option("--model", help="Folder that `graph nodes train` wrote.")],
    labels: Labels = None,
    label: Label = None,
    out: Out,
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Give the nodes of EDGES vectors by what was learned on another graph."""
    from regraft.graph.nodes import job

    return _told(job.apply(edges, model, out, labels=labels, label=label, overwrite=overwrite), out, json_output)


def _told(done: Any, out: Path, json_output: bool) -> dict[str, Any]:
    if not json_output:
        done.report.print()
        print(f"\nvectors: {', '.join(str(out / f'{kind}.npy') for kind in done.kinds)}\nreport:  {out / 'report.html'}")
    figures: dict[str, Any] = done.figures
    return figures
