"""`regraft export`: an ordinary checkpoint of one whose tables are factorised."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli.app import verb
from regraft.cli.options import Json, Overwrite


@verb()
def export(
    directory: Annotated[Path, typer.Argument(help="A checkpoint with factorised tables.", metavar="DIR")],
    out: Annotated[Path, typer.Option(help="Directory to write; appears whole or not at all.")],
    overwrite: Overwrite = False,
    json_output: Json = False,
) -> dict[str, Any]:
    """Multiply the factors of DIR's tables out: a checkpoint that plain transformers opens."""
    from regraft.export import export_dense

    done = export_dense(directory, out, overwrite=overwrite)
    if not json_output:
        print(f"{out}: {done.bytes_written / 1e6:,.1f} MB written in {done.seconds:.1f} s")
    return {"out": str(out), "bytes_written": done.bytes_written, "seconds": done.seconds}
