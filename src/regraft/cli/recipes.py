"""`regraft run` and `regraft recipe schema`: the command line as a file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli.app import call, command_group, verb
from regraft.cli.options import DryRun, Json

PATHS = {"out", "replace", "words", "state", "donor", "vectors", "source_vectors", "dictionary", "pairs", "labels", "test_labels"}
group = command_group("recipe", "Recipes: YAML files that hold a command.")


@verb()
def run(
    recipe: Annotated[Path, typer.Argument(help="A YAML recipe.", metavar="RECIPE.yaml")],
    dry_run: DryRun = False,
    json_output: Json = False,
) -> dict[str, Any]:
    """Run a recipe: the command that its `verb` names, with its fields as options."""
    from regraft.cli.adapt import adapt
    from regraft.cli.compare import compare
    from regraft.cli.evaluate import evaluate
    from regraft.recipe import load_recipe

    found = load_recipe(recipe)
    commands: dict[str, Callable[..., dict[str, Any]]] = {"adapt": adapt, "compare": compare, "evaluate": evaluate}
    given = arguments(found.options()) | {"dry_run": dry_run, "json_output": json_output}
    result: dict[str, Any] = call(commands[found.verb], given)
    return result


def arguments(options: dict[str, Any]) -> dict[str, Any]:
    """A recipe's options as the command's arguments."""
    given = dict(options)
    for name, argument in (("set", "settings"), ("train_set", "train_settings"), ("elchat_set", "elchat_settings")):
        if name in given:
            given[argument] = [f"{key}={value}" for key, value in given.pop(name).items()]
    if "methods" in given:
        given["methods"] = ",".join(given["methods"])
    if "bitext" in given:
        given["bitext"] = tuple(Path(path) for path in given["bitext"])
    return {name: Path(value) if name in PATHS else value for name, value in given.items()}


@group.command("schema")
def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from regraft.recipe import recipe_schema

    print(json.dumps(recipe_schema(), indent=2))
