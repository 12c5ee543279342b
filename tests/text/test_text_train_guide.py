"""The guide's commands run as they stand, on toys in place of the two models."""

import json
from pathlib import Path

import pytest

from toys import models
from toys.guide_runner import run_guide

GUIDE = Path(__file__).parents[2] / "docs/guides/text-train.md"


@pytest.mark.filterwarnings("ignore")
def test_the_commands_of_the_guide(bert_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models.llama(layers=1).save_pretrained("MODEL")
    models.tokenizer(True).save_pretrained("MODEL")
    Path("TEACHER").symlink_to(bert_folder)
    assert run_guide(GUIDE, {"--steps 150": "--steps 20"}) == 9
    rows = [json.loads(line) for line in Path("pairs.jsonl").read_text().splitlines()]
    assert {"anchor", "positive", "negative_1", "negative_3"} <= set(rows[0])
    assert "Quality beside speed" in Path("compared/comparison.html").read_text("utf-8")
    assert len(Path("concepts.jsonl").read_text().splitlines()) == 400
    rows = json.loads(Path("concepts-compared/comparison.json").read_text())["rows"]
    assert rows[0]["topics"] == pytest.approx(1)  # ESA, which learns nothing
    assert "Contributions to the cosine" in Path("why.html").read_text("utf-8")
