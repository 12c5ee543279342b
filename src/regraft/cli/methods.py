"""`regraft methods`: what there is to choose from."""

from typing import Annotated, Any

import typer

from regraft.cli.app import Json, verb


@verb()
def methods(family: Annotated[str | None, typer.Option(help="Only this family.")] = None, json_output: Json = False) -> dict[str, Any]:
    """List every method with its parameters, their defaults, and its paper."""
    from regraft.method import list_methods
    from regraft.report import Report

    rows = [
        {
            "method": cls.name,
            "family": cls.family,
            "summary": cls.summary,
            "parameters": cls.parameters(),
            "paper": f"{cls.paper.authors} {cls.paper.year}",
            "link": cls.paper.link,
        }
        for cls in list_methods(family)
    ]
    if not json_output:
        report = Report("Methods")
        shown = [row | {"parameters": ", ".join(f"{k}={v}" for k, v in row["parameters"].items())} for row in rows]  # type: ignore[attr-defined]
        report.add_table("", shown)
        report.print()
    return {"methods": rows}
