"""Recipes: what a command line says, written down in YAML, to be checked, shared and run again.

Enters: a YAML file whose `verb` names a command and whose other fields are that command's options, with the same names and dashes as
underscores. Leaves: a validated recipe, whose `options()` are only what the file says, so that defaults live with the commands. Paths are
relative to the working directory, as on the command line.
"""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Ge, Gt, Lt
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, TypeAdapter, ValidationError, model_validator

from regraft.errors import RecipeError

LARGEST = 1 << 20  # bytes; nobody writes a recipe past this


def _as_text(value: Any) -> Any:
    return str(value) if type(value) in (int, float) else value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], BeforeValidator(_listed), Field(min_length=1, description="one, or a list")]
Bitext = Annotated[list[Text], Field(min_length=2, max_length=2, description="two files of parallel lines: source, target")]
Whole = Annotated[int, Strict()]
Setting = bool | int | float | str | None
Budget = Annotated[str, BeforeValidator(_as_text), Field(pattern=r"^\d+(\.\d+)?( ?[a-z]+)?$")]


class _Recipe(BaseModel):
    """Fields that every verb takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[Text, Field(description="model directory, or Hugging Face id")]
    seed: Annotated[Whole, Ge(0)] | None = None
    device: Annotated[Text, Field(description="cpu, cuda, cuda:1, mps")] | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = None
    score_bytes: Annotated[str, BeforeValidator(_as_text), Field(description="bytes of each text to score: 60000, 200k or all")] | None = (
        None
    )
    text_column: Annotated[Text, Field(description="text column of tables")] | None = None

    def options(self) -> dict[str, Any]:
        """The options that the recipe sets, by name, without the verb."""
        return self.model_dump(exclude_unset=True, exclude={"verb"})


class _Change(_Recipe):
    """Fields of the verbs that change a vocabulary: what to change it to, and how the new rows are trained."""

    corpus: Annotated[Texts, Field(description="files, folders, patterns")] | None
    held_out: Annotated[float, Ge(0), Lt(1), Field(description="share of documents kept from training")] | None = None
    extend: Annotated[Whole, Gt(0), Field(description="how many pieces to add")] | None = None
    replace: Annotated[Text, Field(description="tokenizer directory or file to take instead")] | None = None
    words: Annotated[Text, Field(description="a file with one word or phrase a line")] | None = None
    trim: Annotated[bool, Strict(), Field(description="keep only the pieces that the corpus uses")] = False
    ontology: Annotated[Texts, Field(description="name=path of each ontology to make pieces of")] | None = None
    route: Literal["continued", "new-first", "old-first", "n-grams", "adaptivocab"] | None = None
    widen_pretokenizer: Annotated[bool, Strict()] | None = None
    train: Annotated[Budget, Field(description="budget of training: 2min, 200 (steps) or 2epochs")] | None = None
    train_set: Annotated[dict[str, Setting], Field(description="options of training: parameters, objective, lr ...")] | None = None
    source_text: Annotated[Texts, Field(description="text in the model's own language, for drift and replay")] | None = None
    donor: Annotated[Text, Field(description="a model whose vocabulary holds the wanted tokens")] | None = None
    vectors: Annotated[Text, Field(description="word or token vectors in the target language, or in all")] | None = None
    source_vectors: Annotated[Text, Field(description="word vectors in the model's own language")] | None = None
    dictionary: Annotated[Text, Field(description="lines of source word and target word")] | None = None
    bitext: Bitext | None = None

    @model_validator(mode="after")
    def _one_change(self) -> "_Change":
        chosen = [name for name in ("extend", "replace", "words", "trim", "ontology") if getattr(self, name) not in (None, False)]
        if len(chosen) != 1:
            given = " and ".join(chosen) if chosen else "none"
            raise ValueError(f"give exactly one of extend, replace, words, trim, ontology ({given} given)")
        return self


class AdaptRecipe(_Change):
    """Give a model a new vocabulary."""

    verb: Literal["adapt"] = "adapt"
    method: Annotated[Text, Field(description="how new rows start; `regraft methods` lists them")] | None = None
    set: Annotated[dict[str, Setting], Field(description="the method's parameters")] | None = None
    elchat: Annotated[bool, Strict(), Field(description="after training, mix the weights with the source's")] | None = None
    elchat_set: Annotated[dict[str, Setting], Field(description="options of elchat: method, outer, inner, rows, special")] | None = None
    score: Annotated[bool, Strict(), Field(description="load the model and score it before and after")] | None = None
    pad_to_multiple_of: Annotated[Whole, Gt(0)] | None = None
    state: Annotated[Text, Field(description="directory for the state of training, to go on from after a kill")] | None = None
    out: Annotated[Text, Field(description="directory to write")]
    overwrite: Annotated[bool, Strict()] | None = None
    corpus: Annotated[Texts, Field(description="files, folders, patterns; may be left out with ontology")] | None = None

    @model_validator(mode="after")
    def _some_text(self) -> "AdaptRecipe":
        if self.corpus is None and self.ontology is None:
            raise ValueError("'corpus' is missing; add a line `corpus: ...`")
        return self


class CompareRecipe(_Change):
    """Start the same new vocabulary in several ways and measure each."""

    verb: Literal["compare"] = "compare"
    corpus: Annotated[Texts, Field(description="files, folders, patterns")] | None = None
    methods: Annotated[Texts, Field(description="names, or all")] | None = None
    task: (
        Annotated[Text, Field(description="fine-tune on this instead of scoring text: a named task, tagging, coding, classification")]
        | None
    ) = None
    labels: Annotated[Text, Field(description="labelled examples to train on")] | None = None
    test_labels: Annotated[Text, Field(description="labelled examples to measure by")] | None = None
    label_column: Annotated[Text, Field(description="label column of tables")] | None = None
    shares: Annotated[str, BeforeValidator(_as_text), Field(description="percentages of the labels: 5,10,20,50,100")] | None = None
    seeds: Annotated[Whole, Gt(0), Field(description="fine-tunings of each vocabulary at each share")] | None = None
    set: Annotated[dict[str, Setting], Field(description="with a task, hyper-parameters of K-Tokeniser")] | None = None
    out: Annotated[Text, Field(description="directory for the page, the JSON and finished rows")] | None = None

    @model_validator(mode="after")
    def _text_or_task(self) -> "CompareRecipe":
        if self.corpus is None and self.task is None:
            raise ValueError("'corpus' is missing; add a line `corpus: ...`")
        return self


class EvaluateRecipe(_Recipe):
    """Measure a model on text."""

    verb: Literal["evaluate"] = "evaluate"
    text: Annotated[Texts, Field(description="files, folders, patterns")]
    pairs: Annotated[Text, Field(description="a TSV, CSV or JSONL file of sources and references, to translate")] | None = None
    bitext: Bitext | None = None
    examples: Annotated[Whole, Gt(0), Field(description="pairs that a prompt shows")] | None = None
    template: Annotated[Text, Field(description="how a prompt writes a pair: {source}, and {reference} at the end")] | None = None
    sentences: Annotated[Whole, Gt(0), Field(description="how many pairs to translate")] | None = None


Recipe = AdaptRecipe | CompareRecipe | EvaluateRecipe
RECIPES: dict[str, type[AdaptRecipe] | type[CompareRecipe] | type[EvaluateRecipe]] = {
    "adapt": AdaptRecipe,
    "compare": CompareRecipe,
    "evaluate": EvaluateRecipe,
}


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
    schema = TypeAdapter(Annotated[Recipe, Field(discriminator="verb")]).json_schema()
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
