"""Recipes: what a command line says, written down in YAML, to be checked, shared and run again.

Enters: a YAML file whose `verb` names a command and whose other fields are that command's options, with the same names and dashes as
underscores. Leaves: a validated recipe, whose `options()` are only what the file says, so that defaults live with the commands. Paths are
relative to the working directory, as on the command line.
"""

import difflib
import inspect
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Lt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, TypeAdapter, ValidationError, create_model, model_validator

from regraft.cli.adapt import adapt
from regraft.cli.app import GROUPED, call, unfolded
from regraft.cli.compare import compare
from regraft.cli.compare_tasks import compare_tasks
from regraft.cli.evaluate import evaluate
from regraft.cli.options import Yaml
from regraft.errors import RecipeError

LARGEST = 1 << 20  # bytes; nobody writes a recipe past this


def _as_text(value: Any) -> Any:
    return str(value) if type(value) in (int, float) else value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float) else value


Text = Annotated[str, BeforeValidator(_as_text), Field(min_length=1)]
Texts = Annotated[list[Text], BeforeValidator(_listed), Field(min_length=1, description="one, or a list")]
Bitext = Annotated[list[Text], Field(min_length=2, max_length=2, description="two files of parallel lines: source, target")]
Setting = bool | int | float | str | None
TYPES: dict[Any, Any] = {  # an option's own type -> what a recipe takes
    bool: Annotated[bool, Strict()],
    int: Annotated[int, Strict()],
    float: float,
    str: Text,
    Path: Text,
    list[str]: Texts,
    list[Path]: Texts,
    list[int]: Annotated[list[int], BeforeValidator(_listed), Field(min_length=1, description="one, or a list")],
    list[float]: Annotated[list[float], BeforeValidator(_listed), Field(min_length=1, description="one, or a list")],
    tuple[Path, Path]: Bitext,
}


class Recipe(BaseModel):
    """A command as a file says it. Its fields are those of the verb; see `regraft recipe schema`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    verb: str

    def options(self) -> dict[str, Any]:
        """The options that the recipe sets, by name, without the verb."""
        return self.model_dump(exclude_unset=True, exclude={"verb"})


def _one_change(recipe: Any) -> Any:
    chosen = [name for name in ("extend", "replace", "words", "trim", "ontology") if getattr(recipe, name) not in (None, False)]
    if len(chosen) != 1:
        given = " and ".join(chosen) if chosen else "none"
        raise ValueError(f"give exactly one of extend, replace, words, trim, ontology ({given} given)")
    return recipe


def _text_or(other: str) -> Callable[[Any], Any]:
    def check(recipe: Any) -> Any:
        if recipe.corpus is None and getattr(recipe, other) is None:
            raise ValueError("'corpus' is missing; add a line `corpus: ...`")
        return recipe

    return check


def _written(command: Callable[..., Any]) -> Iterator[tuple[inspect.Parameter, Any, Yaml]]:
    """The options of `command` that recipes have: each with its own type and how YAML writes it.

    Of a verb in a group these are all but `--json`, of others those that are marked.
    """
    grouped = command in GROUPED.values()
    for option in unfolded(command):
        base, *about = get_args(option.annotation)
        plain = next(part for part in get_args(base) if part is not types.NoneType) if _is_union(base) else base
        said = next((mark for mark in about if isinstance(mark, Yaml)), Yaml() if grouped and option.name != "json_output" else None)
        if said is not None:
            yield option, plain, said


def _is_union(base: Any) -> bool:
    return get_origin(base) in (Union, types.UnionType)


def _recipe(command: Callable[..., Any], summary: str, *checks: Callable[[Any], Any], verb: str = "") -> type[Recipe]:
    """The recipe of a verb: a field for each of its options that says how YAML writes it, and `checks` of fields against each other."""
    verb = verb or command.__name__
    fields: dict[str, Any] = {"verb": (Literal[verb], verb)}
    fields |= {_name(option.name): _field(option, plain, said) for option, plain, said in _written(command)}
    validators: dict[str, Any] = {f"check_{number}": model_validator(mode="after")(check) for number, check in enumerate(checks)}
    name = f"{verb.title().replace(' ', '').replace('-', '')}Recipe"
    return create_model(name, __base__=Recipe, __module__=__name__, __doc__=summary, __validators__=validators, **fields)


def _name(option: str) -> str:
    """`train_settings` of the command is `--train-set`, and so `train_set` here; `map_` is `map`."""
    return option.replace("settings", "set").rstrip("_")


def _field(option: inspect.Parameter, plain: Any, said: Yaml) -> tuple[Any, Any]:
    """Type and default of a field: null stands for an option that is left to the command."""
    if option.name.endswith("settings"):
        kind: Any = dict[str, Setting]
    elif said.choices:
        kind = Literal[said.choices]
    elif said.listed:
        kind = Texts
    else:
        kind = str if said.as_text else TYPES[plain]
    marks: list[Any] = [mark(bound) for mark, bound in ((Ge, said.ge), (Gt, said.gt), (Lt, said.lt)) if bound is not None]
    marks += [BeforeValidator(_as_text)] if said.as_text else []
    if said.about or said.pattern:
        marks.append(Field(description=said.about, pattern=said.pattern))
    for mark in marks:
        kind = Annotated[kind, mark]
    if option.default is inspect.Parameter.empty:
        return kind, ...
    return (kind, said.default) if said.default is not None else (kind | None, None)


AdaptRecipe = _recipe(adapt, "Give a model a new vocabulary.", _one_change, _text_or("ontology"))
CompareRecipe = _recipe(compare, "Start the same new vocabulary in several ways and measure each.", _one_change, _text_or("task"))
CompareTasksRecipe = _recipe(compare_tasks, "Fine-tune on labelled examples under several vocabularies.", verb="compare-tasks")
EvaluateRecipe = _recipe(evaluate, "Measure a model on text.")
RECIPES = {"adapt": AdaptRecipe, "compare": CompareRecipe, "compare-tasks": CompareTasksRecipe, "evaluate": EvaluateRecipe} | {
    name: _recipe(command, str(command.__doc__).partition("\n")[0], verb=name) for name, command in GROUPED.items()
}
COMMANDS: dict[str, Callable[..., Any]] = {
    "adapt": adapt,
    "compare": compare,
    "compare-tasks": compare_tasks,
    "evaluate": evaluate,
    **GROUPED,
}


def run_recipe(recipe: Recipe, **more: Any) -> Any:
    """Do what a recipe says; `more` are options that no recipe has."""
    command = COMMANDS[recipe.verb]
    known = {_name(option.name): (option.name, plain, said) for option, plain, said in _written(command)}
    given = {}
    for field, value in recipe.options().items():
        name, plain, said = known[field]
        given[name] = _as_typed(value, plain, said)
    taken = {option.name for option in unfolded(command)}
    if more.get("dry_run") and "dry_run" not in taken:
        raise RecipeError(f"{recipe.verb} has no dry run: leave --dry-run out")
    return call(command, given | {name: value for name, value in more.items() if name in taken})


def _as_typed(value: Any, plain: Any, said: Yaml) -> Any:
    """A field's value as the command line would have handed it over."""
    if isinstance(value, dict):
        return [f"{key}={one}" for key, one in value.items()]
    if said.listed:
        return ",".join(value)
    if plain is Path and value is not None:
        return Path(value)
    if plain == list[Path] and value is not None:
        return [Path(one) for one in value]
    return tuple(Path(one) for one in value) if plain == tuple[Path, Path] and value is not None else value


def load_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe.

    Raises `RecipeError`: the file, the line, the field, what is wrong with it and what it accepts, in one line.
    """
    path = Path(path)
    node = _compose(path)
    if not isinstance(node, yaml.MappingNode):
        raise RecipeError(f"{path}: not a recipe; write fields and values, starting with `verb: adapt`")
    lines = _lines(node, path)
    content = _plain(node, path)
    verb = content.get("verb")
    if not isinstance(verb, str) or verb not in RECIPES:
        said = f"unknown verb '{verb}'" if "verb" in content else "has no verb"
        raise RecipeError(f"{path}, line {lines.get(('verb',), 1)}: {said}: choose one of {', '.join(RECIPES)}")
    try:
        return RECIPES[verb].model_validate(content)
    except ValidationError as error:
        raise RecipeError(_first_problem(error, path, lines, RECIPES[verb])) from None


def recipe_schema() -> dict[str, Any]:
    """JSON schema of recipes, for editors that complete and check YAML."""
    every: Any = Union[tuple(RECIPES.values())]  # noqa: UP007  # made of a list
    schema = TypeAdapter(Annotated[every, Field(discriminator="verb")]).json_schema()
    for definition in schema["$defs"].values():
        definition["required"] = sorted({*definition.get("required", []), "verb"})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "regraft recipe", **schema}


class _Loader(yaml.SafeLoader):
    """Safe YAML in which, as in YAML 1.2, 1e-4 is a number and `no` and `on` are words."""


_BOOL = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != _BOOL] for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789"))


def _compose(path: Path) -> yaml.Node | None:
    try:
        if path.stat().st_size > LARGEST:
            raise RecipeError(f"{path}: too large for a recipe; give a YAML file")
        return yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=_Loader)
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: not UTF-8 text; give a YAML file") from None
    except OSError as error:
        raise RecipeError(f"{path}: can't be read ({(error.strerror or str(error)).lower()}); give the path of a recipe") from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise RecipeError(f"{path}{where}: not valid YAML ({getattr(error, 'problem', None) or 'unreadable'}); mend that line") from None


def _plain(node: yaml.Node, path: Path) -> Any:
    loader = _Loader("")
    try:
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise RecipeError(
            f"{path}{where}: {getattr(error, 'problem', None) or 'a value that can not be read'}; use plain YAML values"
        ) from None
    finally:
        loader.dispose()


def _lines(node: yaml.MappingNode, path: Path, prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    """Line of each field, by its path. Two values for one field are an error: YAML would silently keep the last."""
    lines: dict[tuple[str, ...], int] = {}
    for key, value in node.value:
        name = (*prefix, str(key.value))
        line = key.start_mark.line + 1
        if name in lines:
            raise RecipeError(f"{path}, line {line}: '{'.'.join(name)}' is given twice (first on line {lines[name]}); keep one")
        lines[name] = line
        if isinstance(value, yaml.MappingNode) and len(prefix) < 2:
            lines |= _lines(value, path, name)
    return lines


def _first_problem(error: ValidationError, path: Path, lines: dict[tuple[str, ...], int], recipe: type[BaseModel]) -> str:
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")  # a misspelt field explains a missing one
    first = problems[0]
    names = tuple(str(part) for part in first["loc"])
    line = next((lines[names[:n]] for n in range(len(names), 0, -1) if names[:n] in lines), None)
    where = f"{path}, line {line}" if line else str(path)
    field = names[0] if names else ""
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(field.replace("-", "_"), recipe.model_fields, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it takes {', '.join(recipe.model_fields)}"
        return f"{where}: unknown field '{field}': {hint}"
    if first["type"] == "missing":
        return f"{where}: '{field}' is missing; add a line `{field}: ...`"
    if not field:
        return f"{where}: {first['msg'].removeprefix('Value error, ')}"
    shown = repr(first["input"])
    return f"{where}: {field}: {shown if len(shown) <= 60 else shown[:57] + '...'} is not accepted: {first['msg'].lower()}"
