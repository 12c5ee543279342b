"""`regraft reproduce`: a paper's claim, tested again."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli.app import verb
from regraft.cli.completion import reproductions
from regraft.cli.options import Device, Json


@verb()
def reproduce(
    method: Annotated[str, typer.Argument(help="A method with a reproduction script.", metavar="METHOD", autocompletion=reproductions)],
    quick: Annotated[bool, typer.Option("--quick", help="Smaller data and fewer seeds: a look, not a result.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the result; default the checkout's results, else here.")] = None,
    device: Device = "cpu",
    json_output: Json = False,
) -> dict[str, Any]:
    """Run a reproduction and print its verdict; the exit code is 0 whatever the verdict."""
    from regraft.reproductions import run

    result, path, report = run(method, quick=quick, out=out, device=device)
    if not json_output:
        report.print()
        print(f"\nresult: {path}")
    return result
