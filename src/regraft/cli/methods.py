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
            "needs": list(getattr(cls, "needs", ())),
            "paper": f"{cls.paper.authors} {cls.paper.year}",
            "link": cls.paper.link,
        }
        for cls in list_methods(family)
    ]
    if not json_output:
        report = Report("Methods", "Set a parameter with --set name=value.")
        for name in dict.fromkeys(row["family"] for row in rows):
            report.add_table(str(name), [shown(row) for row in rows if row["family"] == name])
        report.print()
    return {"methods": rows}


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """The columns that fit a terminal."""
    parameters = " ".join(f"{name}={value}" for name, value in row["parameters"].items())
    needs = ", ".join(row["needs"]) or None
    return {"method": row["method"], "what it does": row["summary"], "parameters": parameters, "needs": needs, "paper": row["paper"]}
