"""`regraft demo`: the whole way once, on a real model and real text."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli.app import verb
from regraft.cli.options import Json, Overwrite


@verb()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the model, the adapted model and the report.")] = Path("demo-output"),
    steps: Annotated[int, typer.Option(min=1, help="Steps of training: the same model on any machine.")] = 12,
    minutes: Annotated[float, typer.Option(min=0.1, help="Minutes of training after which it ends early, and says so.")] = 20.0,
    extend: Annotated[int, typer.Option(min=1, help="New pieces to learn.")] = 1000,
    control: Annotated[bool, typer.Option("--control", help="Train the untouched model alike too, to set beside.")] = False,
    overwrite: Overwrite = True,
    json_output: Json = False,
) -> dict[str, Any]:
    """Adapt SmolLM2-135M to clinical English: read, learn pieces, graft rows, score, train, score again, write."""
    from regraft.demo import run

    return run(out, steps=steps, minutes=minutes, extend=extend, control=control, overwrite=overwrite, json_output=json_output)
