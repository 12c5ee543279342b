"""`regraft data`: named data sets, their licences, and where each is."""

from typing import Annotated, Any

import typer

from regraft.cli.app import verb
from regraft.cli.completion import data_sets
from regraft.cli.options import Json


@verb()
def data(
    name: Annotated[str | None, typer.Argument(help="Only this one, file by file.", metavar="[NAME]", autocompletion=data_sets)] = None,
    json_output: Json = False,
) -> dict[str, Any]:
    """List the named data sets with licence and place."""
    from regraft.datasets import list_data_sets, list_files
    from regraft.report import Report

    rows = list_data_sets() if name is None else list_files(name)
    if not json_output:
        report = Report("Data sets" if name is None else f"Data set {name}")
        report.add_table("", rows)
        report.print()
    return {"data": rows}
