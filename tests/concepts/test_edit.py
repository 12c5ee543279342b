"""Learned words mixed, shortened and cleaned, by Python and from the command line."""

import json

import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from regraft.cli.app import app
from regraft.concepts.edit import projected


def run(*arguments):
    found = CliRunner().invoke(app, ["concept", "edit", *(str(one) for one in arguments), "--json"])
    return found.exit_code, found.stdout, found.stderr


def test_a_word_of_diffusers_own_script_is_mixed_shortened_and_cleaned(pipeline_dir, tmp_path):
    torch.manual_seed(0)
    one, two = torch.randn(3, 16), torch.randn(3, 16)
    save_file({"<one>": one}, tmp_path / "learned_embeds.safetensors")
    save_file({"<two>": two}, tmp_path / "two.safetensors")
    code, out, err = run(
        tmp_path / "learned_embeds.safetensors", "--mix", tmp_path / "two.safetensors", "--share", "0.25", "--pieces", 2, "--clean", "red",
        "--pipeline", pipeline_dir, "--word", "<new>", "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, err
    from regraft.concepts.host.pipeline import open_pipeline
    from regraft.concepts.host.words import rows_of

    red = rows_of(open_pipeline(pipeline_dir), "red")["clip_l"]
    found = load_file(tmp_path / "out" / "learned_embeds.safetensors")["<new>"]
    expected = (0.75 * one + 0.25 * two)[:2]
    assert torch.allclose(found @ red.T, torch.zeros(2, 1), atol=1e-6)
    assert torch.allclose(found + (expected @ red.T) @ red / red.square().sum(), expected, atol=1e-5)
    assert json.loads(out)["pieces"] == 2


def test_a_projection_takes_the_span_and_nothing_else():
    torch.manual_seed(0)
    rows, unwanted = torch.randn(4, 8), torch.randn(2, 8)
    gone = projected(rows, torch.cat([unwanted, unwanted]), 1.0)
    assert torch.allclose(gone @ unwanted.T, torch.zeros(4, 2), atol=1e-5)
    assert torch.allclose(projected(rows, unwanted, 0.3), rows + 0.3 * (gone - rows), atol=1e-5)


def test_what_does_not_mix_is_one_line(tmp_path):
    save_file({"<one>": torch.ones(1, 16)}, tmp_path / "one.safetensors")
    save_file({"<two>": torch.ones(2, 16)}, tmp_path / "two.safetensors")
    code, _, err = run(tmp_path / "one.safetensors", "--mix", tmp_path / "two.safetensors", "--out", tmp_path / "out")
    assert code == 2
    assert "only rows of one shape mix" in err
    assert run(tmp_path / "one.safetensors", "--out", tmp_path / "out")[0] == 2
    assert run(tmp_path / "one.safetensors", "--pieces", "3", "--out", tmp_path / "out")[0] == 2
    assert not (tmp_path / "out").exists()
