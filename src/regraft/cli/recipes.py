"""`regraft run` and `regraft recipe schema`: the command line as a file."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli.app import DryRun, Json, app, verb

recipe_app = typer.Typer(help="Recipes: YAML files that hold a command.", no_args_is_help=True)
app.add_typer(recipe_app, name="recipe")


@verb()
def run(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe.", metavar="RECIPE.yaml")],
    dry_run: DryRun = False,
    json_output: Json = False,
) -> dict[str, Any]:
    """Run a recipe."""
    from regraft.recipe import load_recipe, run_recipe

    return run_recipe(load_recipe(recipe), dry_run=dry_run, json_output=json_output)


@recipe_app.command("schema")
def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from regraft.recipe import recipe_schema

    print(json.dumps(recipe_schema(), indent=2))
