"""`regraft text encode`: one vector a text."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.text.group import group
from regraft.cli.text.options import Machine, Model


@o.options
class Shape:
    """What the vectors look like."""

    dimensions: Annotated[int | None, typer.Option(min=1, help="Keep the first so many dimensions, at unit length again.")] = None
    precision: Annotated[str, typer.Option(help="float32, int8 or binary (one bit a dimension).")] = "float32"


@verb(group=group)
def encode(
    model: Model,
    *,
    text: Annotated[list[str], typer.Option("--text", help="Texts: files, folders, globs, tables. Repeatable.")],
    out: Annotated[Path, typer.Option("--out", help="The .npy to write; a .json beside it says how it was made.")],
    pooling: Annotated[str, typer.Option("--pooling", "--method", help="See `regraft methods --family encoder`.")] = "as-is",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter of the way of encoding, field=value. Repeatable.")
    ] = None,
    instruction: Annotated[str, typer.Option(help="Put before each text; it is attended to, and not pooled.")] = "",
    text_column: o.TextColumn = None,
    shape: Shape,
    save_model: Annotated[Path | None, typer.Option("--save-model", help="Write the encoder itself to this directory.")] = None,
    machine: Machine,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Turn texts into vectors with any checkpoint: its own pooling, another one, or prompts that need no training."""
    from regraft.errors import ParameterError
    from regraft.method import parse_settings
    from regraft.text.encode import encode as run
    from regraft.text.encode import save_encoder

    if shape.precision not in ("float32", "int8", "binary"):
        raise ParameterError(f"--precision {shape.precision}: choose float32, int8 or binary")
    given = parse_settings(settings or [])
    figures = run(
        model,
        text,
        out=out,
        method=pooling,
        settings=given,
        instruction=instruction,
        text_column=text_column,
        dimensions=shape.dimensions,
        precision=shape.precision,  # type: ignore[arg-type]  # checked above
        **vars(machine),
    )
    if save_model is not None:
        save_encoder(model, save_model, method=pooling, settings=given, max_tokens=machine.max_tokens)
        figures |= {"model": str(save_model)}
    if not json_output:
        size = f"{figures['texts']:,} vectors of {figures['dimensions']} dimensions"
        print(f"{size}, {figures['precision']}, in {figures['seconds']:.1f} s: {out}")
    return figures
