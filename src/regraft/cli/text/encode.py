"""`regraft text encode`: one vector a text."""

from pathlib import Path
from typing import Annotated, Any, get_args

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
    after: Annotated[str, typer.Option(help="none, center, all-but-the-top, remove-first or whiten; kept by --save-model.")] = "none"
    fit: Annotated[list[str] | None, typer.Option("--fit", help="Texts that --after is fitted on; by default those encoded.")] = None
    chunk_tokens: Annotated[int | None, typer.Option(min=1, help="A vector for each so many tokens, pooled after all are read.")] = None


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
    from regraft.text.encode import Precision
    from regraft.text.encode import Shape as Vectors
    from regraft.text.encode import encode as run
    from regraft.text.reading.after import After

    for name, given, known in (("precision", shape.precision, get_args(Precision)), ("after", shape.after, get_args(After))):
        if given not in known:
            raise ParameterError(f"--{name} {given}: choose {', '.join(known[:-1])} or {known[-1]}")
    figures = run(
        model,
        text,
        out=out,
        method=pooling,
        settings=parse_settings(settings or []),
        instruction=instruction,
        text_column=text_column,
        shape=Vectors(**vars(shape)),
        save_model=save_model,
        **vars(machine),
    )
    if not json_output:
        size = f"{figures['vectors']:,} vectors of {figures['dimensions']} dimensions"
        empty = f" ({figures['empty']:,} of empty texts, all zeros)" if figures["empty"] and shape.chunk_tokens is None else ""
        print(f"{size}, {figures['precision']}, in {figures['seconds']:.1f} s: {out}{empty}")
    return figures
