"""`regraft text sizes`: which size of a model is enough, measured here."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.text.group import group
from regraft.cli.text.options import Machine, Model


@verb(group=group)
def sizes(
    model: Model,
    *,
    tasks: Annotated[
        str, typer.Option("--tasks", help="sts, sick, sts12 to sts16, words, simlex, trec, cranfield, or files; commas between.")
    ] = "sts",
    enough: Annotated[float, typer.Option(help="Share of the full size's quality that will do.")] = 0.95,
    machine: Machine,
    out: Annotated[Path | None, typer.Option("--out", help="Directory for the page, the figures and the rows.")] = None,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Measure every size that a model was trained at: quality beside speed on this machine, and the fastest that will do."""
    from regraft.text.sizes.picking import pick as run

    done = run(model, tasks=tasks, enough=enough, out=out, **vars(machine))
    if not json_output:
        done.report.print()
    return {"rows": done.rows}
