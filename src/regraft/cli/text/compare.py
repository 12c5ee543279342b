"""`regraft text compare`: encoders beside each other on the same tasks."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.text.group import group
from regraft.cli.text.options import Machine


@verb(group=group)
def compare(
    models: Annotated[
        list[str],
        typer.Argument(help="Checkpoints; MODEL@ENCODER for another way of encoding, MODEL@ENCODER:field=value.", metavar="MODEL ..."),
    ],
    *,
    tasks: Annotated[
        str, typer.Option("--tasks", help="sts, sick, sts12 to sts16, words, simlex, trec, cranfield, or files; commas between.")
    ] = "sts",
    machine: Machine,
    out: Annotated[Path | None, typer.Option("--out", help="Directory for the page, the figures and the rows.")] = None,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Set encoders beside the first of them: quality on tasks, speed and size on this machine."""
    from regraft.text.compare import compare as run

    done = run(models, tasks=tasks, out=out, **vars(machine))
    if not json_output:
        done.report.print()
    return {"rows": done.rows}
