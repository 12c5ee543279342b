"""`regraft grow linearity`: does TLEG's premise hold in a checkpoint?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.grow.group import group


@verb(group=group)
def linearity(
    model: o.Model,
    *,
    out: Annotated[Path | None, typer.Option("--out", help="Directory for the page and the figures.")] = None,
    seed: o.Seed = 0,
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Measure how far the layers of MODEL lie on a line in their place, which is what `grow depth --method tleg` takes for granted."""
    from regraft.grow.depth.diagnose import diagnose

    report, figures = diagnose(model, out=out, seed=seed, overwrite=overwrite)
    if not json_output:
        report.print()
    return figures
