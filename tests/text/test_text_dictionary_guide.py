"""The guide's commands run as they stand, on a toy in place of the model."""

from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer

from toys.guide_runner import run_guide

GUIDE = Path(__file__).parents[2] / "docs/guides/text-dictionary.md"


@pytest.mark.filterwarnings("ignore")
def test_the_commands_of_the_guide(bert_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("MODEL").symlink_to(bert_folder)
    assert run_guide(GUIDE) == 4
    assert SentenceTransformer("trained", device="cpu").encode("the cat sat").shape == (16,)
    assert "MRR" in Path("compared/comparison.html").read_text("utf-8")
