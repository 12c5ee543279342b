"""`regraft text cut`: an ordinary smaller checkpoint from a model that was trained at several sizes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.text.group import group
from regraft.cli.text.options import Model


@verb(group=group)
def cut(
    model: Model,
    *,
    size: Annotated[str, typer.Option("--size", help="Layers and dimensions, as 4,96; one that was trained.")],
    out: Annotated[Path, typer.Option("--out", help="Directory for the smaller encoder.")],
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Cut a model that was trained at several sizes to one: fewer layers, shorter vectors, for plain sentence-transformers."""
    from regraft.text.sizes.cutting import cut as run
    from regraft.text.sizes.size import parse_size

    figures = run(model, parse_size(size), out=out, overwrite=overwrite)
    if not json_output:
        share = figures["parameters"] / figures["parameters_before"]
        print(f"{figures['layers']} layers, {figures['dimensions']} dimensions, {share:.0%} of the parameters")
        print(f"{out}: open it with {figures['open']}")
    return figures
