"""What users see and build upon stays as it is: every verb's help, the recipe schema, what `methods` prints.

The files in `golden/` are what an earlier build gave. Whoever means to change one writes them anew, `REGRAFT_WRITE_GOLDEN=1 pytest
tests/cli/test_golden.py`, and says so in the commit.
"""

import json
import os
from pathlib import Path

import typer
from typer.testing import CliRunner

from regraft.cli import app
from regraft.recipe import recipe_schema

GOLDEN = Path(__file__).parents[1] / "golden"


def same_as_golden(name: str, found: str) -> None:
    path = GOLDEN / name
    if os.environ.get("REGRAFT_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text("utf-8")


def commands(command, name):
    """Every command below `command`, with its full name."""
    yield name, command
    for key, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{name} {key}".strip())


def described(name, command):
    """The help of one command in plain lines: what it does, then each parameter. No terminal's width, no theme."""
    lines = [f"# regraft {name}".rstrip(), str(command.help or "")]
    for parameter in command.params:
        names = " / ".join([*parameter.opts, *parameter.secondary_opts])
        facts = {
            "metavar": parameter.metavar,
            "default": parameter.default if isinstance(parameter.default, str | int | float | bool | list | tuple | None) else "computed",
            "required": parameter.required,
            "multiple": getattr(parameter, "multiple", False),
            "values": parameter.nargs if parameter.nargs != 1 else None,
        }
        kept = {key: value for key, value in facts.items() if value is not None and value is not False}
        lines.append(f"  {names}  {json.dumps(kept)}  {getattr(parameter, 'help', None) or ''}".rstrip())
    return "\n".join(lines)


def test_the_help_of_every_verb():
    found = [described(name, command) for name, command in commands(typer.main.get_command(app), "")]
    same_as_golden("help.txt", "\n\n".join(found) + "\n")


def test_the_schema_of_recipes():
    found = json.dumps(recipe_schema(), indent=1, sort_keys=True) + "\n"  # the order of fields means nothing
    same_as_golden("recipe_schema.json", found)


def test_what_methods_prints():
    found = json.loads(CliRunner().invoke(app, ["methods", "--json"]).stdout)
    same_as_golden("methods.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")
