"""What README and docs say of the library is what the library has."""

import re
from pathlib import Path

import yaml

from regraft.method import list_methods
from regraft.recipe import load_recipe
from regraft.reproductions import results_summary

ROOT = Path(__file__).parent.parent
PAGES = "\n".join((ROOT / "docs" / name).read_text("utf-8") for name in ("starts.md", "spaces.md", "encoders.md"))


def test_the_pages_name_every_method_and_no_other() -> None:
    named = set(re.findall(r"^\| `([a-z][a-z0-9-]+)` \|", PAGES, flags=re.MULTILINE))
    assert named == {cls.name for cls in list_methods()}


def test_the_results_sum_up_every_committed_result() -> None:
    assert results_summary() in (ROOT / "docs/results.md").read_text("utf-8")


def test_every_example_is_a_valid_recipe() -> None:
    examples = sorted((ROOT / "examples").glob("*.yaml"))
    assert len(examples) >= 3
    for path in examples:
        assert load_recipe(path).options()["model"] == yaml.safe_load(path.read_text("utf-8"))["model"]
