"""The guides of the family, as a reader would follow them."""

from pathlib import Path

from toys.directory import domain_texts, save_decoder
from toys.guide_runner import run_guide

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


def test_the_guide_to_experts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_decoder(tmp_path / "model")
    (tmp_path / "notes.txt").write_text("\n\n".join(domain_texts()), "utf-8")
    assert run_guide(GUIDES / "grow-experts.md") == 5
    assert (tmp_path / "compared" / "comparison.html").is_file()
    assert (tmp_path / "dense" / "config.json").is_file()


def test_the_guide_to_guidance(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_guide(GUIDES / "grow-guide.md", {"--steps 300": "--steps 2"}) == 2
    assert (tmp_path / "guided" / "network.json").is_file()
