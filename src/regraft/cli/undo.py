"""`regraft undo`: back to what a directory was made from."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli.app import verb
from regraft.cli.options import Json, Overwrite


@verb()
def undo(
    directory: Annotated[Path, typer.Argument(help="A directory that regraft made.", metavar="DIR")],
    out: Annotated[Path | None, typer.Option(help="Write the source's files here instead of replacing DIR.")] = None,
    overwrite: Overwrite = False,
    json_output: Json = False,
) -> dict[str, Any]:
    """Bring back the checkpoint that DIR was made from, if it is still there and unchanged."""
    from regraft.provenance import undo as run

    done = run(directory, out, overwrite=overwrite)
    if not json_output:
        print(f"{done.directory} is {done.source} again ({done.files_linked} files linked, {done.files_copied} copied)")
    return {"directory": str(done.directory), "source": str(done.source)}
