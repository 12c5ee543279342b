"""The guide's commands run as they stand, on toys in place of the two models."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from regraft.cli import app
from toys import models

GUIDE = Path(__file__).parents[2] / "docs/guides/text-train.md"


@pytest.mark.filterwarnings("ignore")
def test_the_commands_of_the_guide(bert_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models.llama(layers=1).save_pretrained("MODEL")
    models.tokenizer(True).save_pretrained("MODEL")
    Path("TEACHER").symlink_to(bert_folder)
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", GUIDE.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    for language, block in blocks:
        if language == "python":
            exec(compile(block, str(GUIDE), "exec"), {})
            continue
        for line in block.splitlines():
            program, *given = shlex.split(line)
            assert program == "regraft"
            done = CliRunner().invoke(app, given)
            assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in Path("pairs.jsonl").read_text().splitlines()]
    assert {"anchor", "positive", "negative_1", "negative_3"} <= set(rows[0])
    assert "Quality beside speed" in Path("compared/comparison.html").read_text("utf-8")
