"""`regraft run` and `regraft recipe schema`: the command line as a file."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli.app import command_group, verb
from regraft.cli.completion import recipes
from regraft.cli.options import DryRun, Json

group = command_group("recipe", "Recipes: YAML files that hold a command.")


@verb()
def run(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe.", metavar="RECIPE.yaml", autocompletion=recipes)],
    dry_run: DryRun = False,
    json_output: Json = False,
) -> dict[str, Any]:
    """Run a recipe: the command that its `verb` names, with its fields as options."""
    from regraft.recipe import load_recipe, run_recipe

    result: dict[str, Any] = run_recipe(load_recipe(recipe), dry_run=dry_run, json_output=json_output)
    return result


@group.command("schema")
def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from regraft.recipe import recipe_schema

    print(json.dumps(recipe_schema(), indent=2))
