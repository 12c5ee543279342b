"""What a user meets first: help in panels, the most used verb first, completion of names, `python -m regraft`."""

import re
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from regraft.cli import app

PANELS = {
    "adapt": ["Options", "What changes", "How new rows start", "Training", "Scoring", "Machine"],
    "compare": ["Options", "What changes", "Training", "How new rows start", "Scoring", "Machine"],
    "compare-tasks": ["Options", "Labels", "Training", "How new rows start", "Machine"],
    "evaluate": ["Options", "Scoring", "Translation", "Machine"],
}


def shown(*arguments):
    return CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": "120", "NO_COLOR": "1"}, color=False).output


@pytest.mark.parametrize("verb", PANELS)
def test_options_stand_in_panels(verb):
    panels = re.findall(r"^╭─ ([A-Z][\w ]+?) ─", shown(verb), flags=re.MULTILINE)
    assert [panel for panel in panels if panel != "Arguments"] == PANELS[verb]


def test_the_most_used_verbs_come_first():
    listed = re.findall(r"^│ ([a-z][a-z-]+)  ", shown(), flags=re.MULTILINE)
    assert listed[:5] == ["demo", "adapt", "compare", "compare-tasks", "evaluate"]
    assert set(listed) == set(typer.main.get_command(app).commands)


def test_compare_is_about_text_alone():
    assert "--task" not in shown("compare")
    assert "--labels" not in shown("compare")


def completed(line, folder=None):
    """What a shell would offer after `line`."""
    environment = {"_REGRAFT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - (line[-1] != " "))}
    return CliRunner().invoke(app, [], prog_name="regraft", env=environment).output.split()


def test_names_are_completed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert completed("regraft adapt --method zip") == ["zip-tie"]
    assert completed("regraft compare --methods merge,me") == ["merge,mean", "merge,merge"]
    assert completed("regraft align fit --method proc") == ["procrustes"]
    assert completed("regraft compare-tasks --task ncbi") == ["ncbi-disease"]
    assert completed("regraft data ncbi") == ["ncbi-disease"]
    assert completed("regraft reproduce zip") == ["zip-tie"]
    assert completed("regraft methods --family al") == ["aligner"]


def test_recipes_are_completed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "mix.yml").touch()
    (tmp_path / "model.bin").touch()
    assert completed("regraft run m") == ["mine.yaml", "more/"]
    assert completed("regraft run more/") == ["more/mix.yml"]
    assert completed("regraft run absent/") == []


def test_it_runs_as_a_module():
    ran = subprocess.run([sys.executable, "-m", "regraft", "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("regraft ")
