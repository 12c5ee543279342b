"""`regraft grow experts`: a dense model with experts, and back."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.grow.group import group


@verb(group=group)
def experts(
    model: o.Model,
    *,
    out: Annotated[Path, typer.Option("--out", help="Directory for the result.")],
    method: Annotated[str, typer.Option("--method", help="emoe or upcycle: see `regraft methods --family expert-grower`.")] = "emoe",
    number: Annotated[int | None, typer.Option("--experts", help="How many experts a layer.")] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", help="How many of them a token takes.")] = None,
    layers: Annotated[str | None, typer.Option("--layers", help="auto, all, or numbers from 0, as 2,4.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A parameter of the method, field=value. Repeatable.")] = None,
    to_dense: Annotated[bool, typer.Option("--to-dense", help="The way back: an ordinary dense model, trained or not.")] = False,
    overwrite: o.Overwrite = False,
    dry_run: o.DryRun = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Split a dense model's feed-forward blocks into experts without one parameter more, or copy them; and back to dense."""
    from regraft.errors import ParameterError
    from regraft.grow.experts import convert
    from regraft.method import parse_settings

    given = {"experts": number, "top_k": top_k, "layers": layers}
    chosen = {name: value for name, value in given.items() if value is not None} | parse_settings(settings or [])
    if to_dense:
        if chosen:
            raise ParameterError(f"--to-dense: takes nothing but the model: leave {', '.join(chosen)} out")
        figures = convert.to_dense(model, out=out, overwrite=overwrite, dry_run=dry_run)
    else:
        figures = convert.grow(model, method=method, settings=chosen, out=out, overwrite=overwrite, dry_run=dry_run)
    if not json_output:
        print(", ".join(f"{key.replace('_', ' ')} {figures[key]:,}" for key in ("layers", "parameters_before", "parameters")))
        for note in figures.get("notes", []):
            print(note)
        print(f"would write {out}" if dry_run else f"{out}: open it with {figures['open']}")
    return figures
