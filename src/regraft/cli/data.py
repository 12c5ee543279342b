"""`regraft data`: named data sets, their licences, and where each is."""

from typing import Any

from regraft.cli.app import verb
from regraft.cli.options import Json


@verb()
def data(json_output: Json = False) -> dict[str, Any]:
    """List the named data sets with licence and place."""
    from regraft.datasets import list_data_sets
    from regraft.report import Report

    rows = list_data_sets()
    if not json_output:
        report = Report("Data sets")
        report.add_table("", rows)
        report.print()
    return {"data": rows}
