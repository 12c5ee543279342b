"""The guide's commands run as they stand, on a toy in place of the model."""

import re
import shlex
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer
from typer.testing import CliRunner

from regraft.cli import app

GUIDE = Path(__file__).parents[2] / "docs/guides/text-dictionary.md"


@pytest.mark.filterwarnings("ignore")
def test_the_commands_of_the_guide(bert_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("MODEL").symlink_to(bert_folder)
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", GUIDE.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    for language, block in blocks:
        if language == "python":
            exec(compile(block, str(GUIDE), "exec"), {})
            continue
        for line in block.splitlines():
            program, *given = shlex.split(line)
            assert program == "regraft"
            done = CliRunner().invoke(app, given)
            assert done.exit_code == 0, done.output
    assert SentenceTransformer("trained", device="cpu").encode("the cat sat").shape == (16,)
    assert "MRR" in Path("compared/comparison.html").read_text("utf-8")
