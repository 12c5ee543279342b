"""The commands of every guide run as they stand, on small inputs with the guide's names.

A block below `<!-- run -->` is run, in order, in one folder: `regraft` in this process, other lines by a shell.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from regraft.cli import app
from toys.guides import TOYS
from toys.tasks import folder as labelled_encoder  # noqa: F401  # a fixture

ROOT = Path(__file__).parents[2]
GUIDES = {path.stem: path.read_text("utf-8") for path in sorted((ROOT / "docs" / "guides").glob("*.md"))}
BLOCK = re.compile(r"(<!-- run -->\n)?```(?:ba)?sh\n(.*?)```", flags=re.DOTALL)


def commands(block: str) -> list[str]:
    """Commands of a shell block: a line, with those that its quotes or backslashes go on in."""
    found, begun = [], ""
    for line in block.replace("\\\n", " ").splitlines():
        begun = f"{begun}\n{line}" if begun else line
        try:
            shlex.split(begun, comments=True)
        except ValueError:  # a quote is open
            continue
        if begun.strip():
            found.append(begun)
        begun = ""
    assert not begun, f"an unfinished command: {begun}"
    return found


def run(command: str, folder: Path) -> None:
    command = re.sub(r"\$\((.*?)\)", lambda found: subprocess.check_output(["sh", "-c", found[1]], text=True, cwd=folder).strip(), command)
    if command.startswith("regraft "):
        done = CliRunner().invoke(app, shlex.split(command, comments=True)[1:])
        assert done.exit_code == 0, f"{command}\n{done.output}"
    else:
        python = f'python() {{ "{sys.executable}" "$@"; }}\n'
        done = subprocess.run(["sh", "-c", python + command], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stderr}"


@pytest.mark.parametrize("guide", TOYS)
def test_the_commands_of_a_guide_run(guide, tmp_path, monkeypatch, labelled_encoder):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    TOYS[guide](tmp_path, labelled_encoder)
    marked = [block for mark, block in BLOCK.findall(GUIDES[guide]) if mark]
    assert marked
    for block in marked:
        for command in commands(block):
            run(command, tmp_path)


@pytest.mark.parametrize("guide", TOYS)
def test_no_command_of_a_guide_is_left_out(guide):
    left = [line for mark, block in BLOCK.findall(GUIDES[guide]) if not mark for line in block.splitlines() if line.startswith("regraft ")]
    assert not left


def test_a_wrong_command_is_found(tmp_path):
    with pytest.raises(AssertionError, match="no such"):
        run("regraft evaluate absent --text absent.txt", tmp_path)
    assert commands("a \\\n  b 'c\nd'\ne # f\n") == ["a    b 'c\nd'", "e # f"]
