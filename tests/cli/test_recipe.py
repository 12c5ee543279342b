"""Recipes: what a file says is what comes back, and every mistake is one line that names file, line and field."""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from regraft.cli import app
from regraft.cli.app import GROUPED
from regraft.errors import RecipeError
from regraft.recipe import AdaptRecipe, CompareRecipe, EvaluateRecipe, load_recipe, recipe_schema

ADAPT = {"verb": "adapt", "model": "./m", "corpus": ["notes/"], "extend": 1000, "out": "./o"}


def write(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def test_options_are_what_the_file_says_and_nothing_more(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path / "r.yaml", yaml.safe_dump(ADAPT)))
    assert isinstance(recipe, AdaptRecipe)
    assert recipe.options() == {key: value for key, value in ADAPT.items() if key != "verb"}


def test_each_verb_has_its_fields(tmp_path: Path) -> None:
    compare = load_recipe(
        write(tmp_path / "c.yaml", "verb: compare\nmodel: m\ncorpus: a.txt\nextend: 5\nmethods: all\nout: o\ntrain: 2m\n")
    )
    evaluate = load_recipe(write(tmp_path / "e.yaml", "verb: evaluate\nmodel: m\ntext: [a, b]\nseed: 3\ndtype: bfloat16\n"))
    assert isinstance(compare, CompareRecipe)
    assert isinstance(evaluate, EvaluateRecipe)
    assert compare.options() == {"model": "m", "corpus": ["a.txt"], "extend": 5, "methods": ["all"], "out": "o", "train": "2m"}
    assert evaluate.options() == {"model": "m", "text": ["a", "b"], "seed": 3, "dtype": "bfloat16"}


def test_comparing_on_a_task_needs_labels_instead_of_text(tmp_path: Path) -> None:
    task = "verb: compare\nmodel: m\nontology: drugs=drugs.txt\ntask: tagging\nlabels: a.conll\nshares: 100\nseeds: 2\nset: {phi: 0.065}\n"
    wanted = {"model": "m", "ontology": ["drugs=drugs.txt"], "task": "tagging", "labels": "a.conll", "shares": "100", "seeds": 2}
    assert load_recipe(write(tmp_path / "t.yaml", task)).options() == wanted | {"set": {"phi": 0.065}}
    with pytest.raises(RecipeError, match="'corpus' is missing"):
        load_recipe(write(tmp_path / "n.yaml", "verb: compare\nmodel: m\nontology: drugs=drugs.txt\n"))


def test_a_verb_in_a_group_takes_numbers_as_text_lists_and_a_map(tmp_path: Path) -> None:
    for text, wanted in (
        ("verb: align relative\nleft: a.npy\nright: b.npy\nanchors: 20\n", {"anchors": "20"}),
        ("verb: probe bias\ntask: t.csv\nsigma: 3\n", {"sigma": "3"}),
        ("verb: probe syntax\nmodel: m\ncode: src\nlayers: [0, 1]\nranks: 8\n", {"layers": ["0", "1"], "ranks": ["8"]}),
        ("verb: probe tables\nmodels: m\ntables: t\nproperties: [join, fd]\n", {"models": ["m"], "properties": ["join", "fd"]}),
        ("verb: align compare\nsource: a\ntarget: b\ndictionary: d\ntest: t\nmethods: [vecmap, rcsls]\n", {"methods": ["vecmap", "rcsls"]}),
        ("verb: align evaluate\nmap: m\ndictionary: d.txt\n", {"map": "m"}),
    ):
        options = load_recipe(write(tmp_path / "r.yaml", text)).options()
        assert {name: options[name] for name in wanted} == wanted
    with pytest.raises(RecipeError, match="left: True is not accepted"):
        load_recipe(write(tmp_path / "r.yaml", "verb: align relative\nleft: true\nright: b.npy\n"))


def test_a_list_in_a_recipe_reaches_the_verb_as_the_command_line_would_say_it(tmp_path: Path) -> None:
    asked = "verb: align compare\nsource: a\ntarget: b\ndictionary: d\ntest: t\nmethods: [vecmap, nothing]\n"
    found = CliRunner().invoke(app, ["run", str(write(tmp_path / "r.yaml", asked))])
    assert found.exit_code == 2
    assert "'nothing'" in found.stderr or "no such file" in found.stderr


def test_numbers_are_read_as_a_person_writes_them(tmp_path: Path) -> None:
    text = yaml.safe_dump(ADAPT) + "set: {c: 1e-4, d: 1.5, n: 3, norm: none, on: true}\ntrain: 500\n"
    recipe = load_recipe(write(tmp_path / "r.yaml", text))
    assert isinstance(recipe, AdaptRecipe)
    assert recipe.set == {"c": 1e-4, "d": 1.5, "n": 3, "norm": "none", "on": True}
    assert recipe.train == "500"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"extnd": 5}, "unknown field 'extnd': did you mean extend"),
        ({"widen-pretokenizer": True}, "unknown field 'widen-pretokenizer': did you mean widen_pretokenizer"),
        ({"extend": 0}, "extend: 0 is not accepted: input should be greater than 0"),
        ({"extend": "many"}, "extend: 'many' is not accepted"),
        ({"extend": True}, "extend: True is not accepted"),
        ({"held_out": 1.0}, "held_out: 1.0 is not accepted: input should be less than 1"),
        ({"train_set": {"a": [1]}}, "train_set: .* is not accepted"),
        ({"trim": True}, "give exactly one of extend, replace, words, trim, ontology .extend and trim given"),
        ({"extend": None}, "give exactly one of extend, replace, words, trim, ontology .none given"),
        ({"corpus": None}, "'corpus' is missing"),
        ({"corpus": []}, "corpus: .* is not accepted"),
        ({"train": "soon"}, "train: 'soon' is not accepted"),
        ({"verb": "adpt"}, "unknown verb 'adpt': choose one of adapt, compare, compare-tasks, evaluate"),
        ({"methods": "all"}, "unknown field 'methods'"),
        ({"set": {"c": [1]}}, "set: .* is not accepted"),
    ],
)
def test_mistakes_name_file_field_and_remedy(tmp_path: Path, change: dict[str, object], says: str) -> None:
    with pytest.raises(RecipeError, match=says) as caught:
        load_recipe(write(tmp_path / "r.yaml", yaml.safe_dump({**ADAPT, **change})))
    assert str(tmp_path / "r.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("verb: adapt\nmodel: m\nextend: x\ncorpus: c\nout: o\n", "line 3: extend: 'x'"),
        ("verb: evaluate\nmodel: m\ntext: a\nmodel: n\n", "line 4: 'model' is given twice .first on line 2"),
        ("verb: evaluate\nmodel: [m\n", "line 3: not valid YAML"),
        ("verb: evaluate\nmodel: !!python/object/apply:os.system [x]\n", "line 2: could not determine a constructor"),
        ("verb: evaluate\ntext: a\n", "'model' is missing"),
        ("- a\n- b\n", "not a recipe"),
        ("", "not a recipe"),
        ("model: m\n", "has no verb"),
        ("verb: [adapt]\n", "unknown verb"),
        ("a: &a [x]\nverb: evaluate\nmodel: *a\ntext: b\n", "unknown field 'a'"),
        ("a: &a\n  b: *a\n", "has no verb|not valid YAML|recursive"),
    ],
)
def test_mistakes_name_their_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says) as caught:
        load_recipe(write(tmp_path / "r.yaml", text))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\x00")
    for path, says in ((tmp_path / "missing", "no such file"), (tmp_path, "is a directory"), (tmp_path / "binary", "not UTF-8")):
        with pytest.raises(RecipeError, match=says):
            load_recipe(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(codec="utf-8"), max_size=60) | st.text("ab:{}[]&*!-|>'\"\n ,?#%@", max_size=40))
def test_any_text_loads_or_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    try:
        load_recipe(write(tmp_path / "r.yaml", text))
    except RecipeError as error:
        assert "\n" not in str(error).removeprefix(str(tmp_path))  # noqa: PT017  # any other exception fails the test


def test_schema_has_every_verb_with_its_fields() -> None:
    schema = recipe_schema()
    assert set(schema["discriminator"]["mapping"]) == {"adapt", "compare", "compare-tasks", "evaluate", *GROUPED}
    assert {"align fit", "probe spectrum", "text encode"} < set(GROUPED)
    adapt = schema["$defs"]["AdaptRecipe"]
    assert adapt["additionalProperties"] is False
    assert adapt["required"] == ["model", "out", "verb"]
    assert set(adapt["properties"]) == set(AdaptRecipe.model_fields)
