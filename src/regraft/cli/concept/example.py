"""`regraft concept example`: a pipeline of 3 MB and pictures of a concept, to try everything with."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.concept.group import group


@verb(group=group)
def example(
    *,
    out: Annotated[Path, typer.Option("--out", help="Directory to write: pipeline/ and pictures/.")],
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Write a complete small pipeline that draws colored digits, and pictures of one that it has no word for."""
    from regraft.concepts.toy.example import write_example

    found = write_example(out, overwrite=overwrite)
    if not json_output:
        print(f"{out / 'pipeline'}: draws digits such as 'a photo of a red three on a white background'; it has no word for 2, 4 and 7")
        print(f"{out / 'pictures'}: {found['pictures']} pictures of a red 4 on black")
    return found
