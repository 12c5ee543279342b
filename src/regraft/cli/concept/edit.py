"""`regraft concept edit`: learned words mixed, shortened and cleaned, also those that other programs wrote."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.concept.group import group


@verb(group=group)
def edit(
    concept: Annotated[str, typer.Argument(help="A taught word: directory, or .safetensors file.", metavar="CONCEPT")],
    *,
    out: Annotated[Path, typer.Option("--out", help="Directory to write; appears whole or not at all.")],
    mix: Annotated[str | None, typer.Option("--mix", help="Another word of the same shape, mixed into it.", metavar="CONCEPT")] = None,
    share: Annotated[float, typer.Option("--share", help="How much of the other.", min=0, max=1)] = 0.5,
    pieces: Annotated[int | None, typer.Option("--pieces", help="Keep its first pieces only.", min=1)] = None,
    clean: Annotated[
        str | None, typer.Option("--clean", help="Words whose input rows are projected out of its own (with --pipeline).")
    ] = None,
    strength: Annotated[float, typer.Option("--strength", help="How much of them is taken out.", min=0, max=1)] = 1.0,
    pipeline: Annotated[str | None, typer.Option("--pipeline", help="The pipeline whose rows --clean means.")] = None,
    word: Annotated[str | None, typer.Option("--word", help="What it is called from now on.")] = None,
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Mix, shorten, clean or rename a taught word, and write it as a new one."""
    from regraft.concepts.edit import Edit
    from regraft.concepts.edit import edit as run

    asked = Edit(mix=mix, share=share, pieces=pieces, clean=clean, strength=strength, pipeline=pipeline, word=word)
    found = run(concept, asked, out=out, overwrite=overwrite)
    if not json_output:
        print(f"{found['word']}: {found['pieces']} piece(s), length {found['norm_start']:.3f} before and {found['norm']:.3f} now")
        print(out)
    return found
