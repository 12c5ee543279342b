"""The guides of the family, as a reader would follow them."""

from pathlib import Path

from toys.directory import save_decoder
from toys.guide_runner import run_guide

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


def test_the_guide_to_experts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_decoder(tmp_path / "model")
    assert run_guide(GUIDES / "grow-experts.md") == 4
    assert (tmp_path / "dense" / "config.json").is_file()


def test_the_guide_to_guidance(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_guide(GUIDES / "grow-guide.md", {"--steps 300": "--steps 2"}) == 2
    assert (tmp_path / "guided" / "network.json").is_file()
