"""`regraft methods`: what there is to choose from."""

from typing import Annotated, Any

import typer

from regraft.cli.app import verb
from regraft.cli.completion import families
from regraft.cli.options import Json


@verb()
def methods(
    family: Annotated[str | None, typer.Option(help="Only this family.", autocompletion=families)] = None,
    json_output: Json = False,
) -> dict[str, Any]:
    """List every method with its parameters, their defaults, and its paper."""
    from regraft.method.listing import list_cards

    rows = list_cards(family)
    if not json_output:
        from regraft.report import Report

        report = Report("Methods", "Set a parameter with --set name=value.")
        for name in dict.fromkeys(row["family"] for row in rows):
            report.add_table(str(name), [shown(row) for row in rows if row["family"] == name])
        report.print()
    return {"methods": rows}


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """The columns that fit a terminal."""
    defaults = {name: tuple(value) if isinstance(value, list) else value for name, value in row["parameters"].items()}  # JSON has no tuples
    parameters = " ".join(f"{name}={value}" for name, value in defaults.items())
    needs = ", ".join(row["needs"]) or None
    return {"method": row["method"], "what it does": row["summary"], "parameters": parameters, "needs": needs, "paper": row["paper"]}
