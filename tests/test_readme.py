"""What README and docs say of the library is what the library has."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from regraft.method import FAMILIES, list_methods
from regraft.recipe import load_recipe

ROOT = Path(__file__).parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
}


@pytest.fixture(scope="module")
def write() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_write", ROOT / "docs" / "write.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs_write"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES)
def test_what_is_made_of_methods_and_results_is_up_to_date(write: ModuleType, page: str) -> None:
    assert write.written(PAGES[page]) == PAGES[page], "run python docs/write.py"


def test_every_family_has_its_table_and_its_count() -> None:
    marks = [what for text in PAGES.values() for what in re.findall(r"<!-- made: ([a-z -]+) -->", text)]
    assert sorted(what.removeprefix("methods ") for what in marks if what.startswith("methods ")) == sorted(FAMILIES)
    counted = [family for what in marks if what.startswith("count ") for family in what.split()[1:]]
    assert sorted(counted) == sorted(FAMILIES)
    assert {"results", "advice"} <= set(marks)


def test_a_table_names_every_method_and_no_other(write: ModuleType) -> None:
    for family in FAMILIES:
        named = re.findall(r"^\| `([a-z][a-z0-9-]+)` \|", write.made(f"methods {family}"), flags=re.MULTILINE)
        assert named == [cls.name for cls in list_methods(family)]


def test_a_page_that_is_out_of_date_is_written_anew(write: ModuleType) -> None:
    assert (
        write.written("a <!-- made: count aligner -->0<!-- end --> b")
        == f"a <!-- made: count aligner -->{len(list(list_methods('aligner')))}<!-- end --> b"
    )
    old = "<!-- made: methods tuner -->\n\n| `gone` | x |\n\n<!-- end -->\n\nrest"
    assert write.written(old) == f"<!-- made: methods tuner -->\n\n{write.methods('tuner')}\n\n<!-- end -->\n\nrest"


def test_an_answer_whose_result_has_changed_is_found(write: ModuleType) -> None:
    claim = {"claim": "a is not worse than b", "data": "d", "verdict": "not reproduced", "unit": "u", "effect": 1.0, "interval": [0.5, 1.5]}
    records, meant = [{"method": "m", "claims": [claim]}], write.Evidence("m", "a is not", "not reproduced", "b")
    assert write.found(meant, records) is claim
    with pytest.raises(ValueError, match="is the answer still right"):
        write.found(meant, [{"method": "m", "claims": [claim | {"verdict": "reproduced"}]}])
    with pytest.raises(ValueError, match="0 claims"):
        write.found(meant, [])


def test_the_front_page_is_short() -> None:
    assert len(PAGES["README.md"].splitlines()) <= 130


def test_every_link_between_pages_leads_somewhere() -> None:
    made = {"docs/reproductions.md", "docs/methods/index.md", "docs/commands.md", "docs/api.md"}  # by docs/generate.py
    for page, text in PAGES.items():
        for target in re.findall(r"\]\(([^)#\s:]+)\)", text):
            place = ((ROOT / page).parent / target).resolve().relative_to(ROOT)
            assert (ROOT / place).exists() or place.as_posix() in made, f"{page}: {target}"


def test_every_example_is_a_valid_recipe() -> None:
    examples = sorted((ROOT / "examples").glob("*.yaml"))
    groups = {load_recipe(path).verb.split()[0] for path in examples}
    assert {"adapt", "compare", "evaluate", "align", "probe"} <= groups
    for path in examples:
        written, found = yaml.safe_load(path.read_text("utf-8")), load_recipe(path)
        assert found.verb == written.pop("verb")
        assert {name: _texts(value) for name, value in found.options().items()} == {name: _texts(value) for name, value in written.items()}


def _texts(value: object) -> object:
    """A field's value without what a recipe leaves open: one or a list of one, a number or its text."""
    return [str(one) for one in value] if isinstance(value, list) else value if isinstance(value, dict) else [str(value)]
