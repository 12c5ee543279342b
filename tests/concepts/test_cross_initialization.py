"""Cross initialization: rows that the tower puts out, where they come from, and how far they go."""

import pytest
import torch
from typer.testing import CliRunner

from regraft.cli.app import app
from regraft.concepts.concept import load_concept, together
from regraft.concepts.host.pipeline import encode, spelled, towers
from regraft.concepts.host.words import rows_of, spliced
from regraft.concepts.method import Lesson, Plan
from regraft.concepts.methods.cross_initialization import CrossInitialization, distance, mean_of_names, put_out
from regraft.errors import CorpusError, ParameterError
from regraft.method import resolve
from toys.pipelines import pictures, stable_diffusion, stable_diffusion_xl


def method(**settings):
    return CrossInitialization(**{"batch": 2, **settings})


def learned(pipeline, plan, **settings):
    return method(**settings).learn(Lesson(pipeline, pictures(), "<my-cat>", "cat"), plan)


@pytest.mark.parametrize("make", [stable_diffusion, stable_diffusion_xl])
def test_rows_are_the_towers_output_behind_its_normalization(make):
    pipeline = make()
    rows = method().rows(pipeline, "red cat")
    for tower in towers(pipeline):
        ids = spelled(pipeline, "red cat", tower)
        tokenizer = tower.tokenizer(pipeline)
        bare = torch.tensor([[tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]])  # without padding
        states = tower.encoder(bare).last_hidden_state
        assert torch.allclose(rows[tower.key], states[0, 1:3], atol=1e-5)
        assert torch.allclose(rows[tower.key].norm(dim=1), torch.full((2,), tower.width**0.5), rtol=1e-3)
        inner = method(layer="penultimate").rows(pipeline, "red cat")[tower.key]
        assert torch.allclose(inner, tower.encoder(bare, output_hidden_states=True).hidden_states[-2][0, 1:3], atol=1e-5)


def test_a_long_row_passes_through_the_tower_and_leaves_what_stands_before_it():
    pipeline = stable_diffusion(width=64)
    prompts = ["{}", "a photo of a {} on a red digit"]
    before = encode(pipeline, [prompt.format("cat") for prompt in prompts]).embeds
    with spliced(pipeline, {"<my-cat>": method().rows(pipeline, "cat")}):
        after = encode(pipeline, [prompt.format("<my-cat>") for prompt in prompts]).embeds
    cosines = torch.cosine_similarity(before, after, dim=2)
    assert cosines[0, 1] > 0.95
    assert torch.equal(before[1, :5], after[1, :5])
    assert cosines[1, 6:].min() > 0.9


def test_one_name_of_one_piece_is_that_word(tmp_path):
    pipeline = stable_diffusion()
    (tmp_path / "names.txt").write_text("cat\n")
    by_name = method(names=tmp_path / "names.txt", vectors=1).rows(pipeline, "dog")["clip_l"]
    assert torch.allclose(by_name, method().rows(pipeline, "cat")["clip_l"], atol=1e-6)


def test_names_are_averaged_by_column_before_the_tower(tmp_path):
    pipeline = stable_diffusion()
    (tmp_path / "names.txt").write_text("red cat\nblue\ngreen dog five\n\n")
    row = {word: rows_of(pipeline, word)["clip_l"][0] for word in ("red", "blue", "green", "cat", "dog")}
    mean = torch.stack([(row["red"] + row["blue"] + row["green"]) / 3, (row["cat"] + row["dog"]) / 2])
    assert torch.allclose(mean_of_names(pipeline, tmp_path / "names.txt", 2)["clip_l"], mean, atol=1e-6)
    found = method(names=tmp_path / "names.txt").rows(pipeline, "ignored")["clip_l"]  # two pieces where nothing else is said
    assert torch.allclose(found, put_out(pipeline, {"clip_l": mean})["clip_l"])
    each = torch.stack([method().rows(pipeline, name)["clip_l"][0] for name in ("red", "blue", "green")]).mean(0)
    assert not torch.allclose(found[0], each, atol=1e-2)  # a mean of what comes out is something else


def test_known_pieces_are_repeated_or_cut_before_the_tower():
    pipeline = stable_diffusion()
    assert torch.allclose(
        method(vectors=3).rows(pipeline, "red cat")["clip_l"], method().rows(pipeline, "red cat red")["clip_l"], atol=1e-6
    )
    assert torch.allclose(method(vectors=1).rows(pipeline, "red cat")["clip_l"], method().rows(pipeline, "red")["clip_l"], atol=1e-6)
    twice = method(vectors=2).rows(pipeline, "cat")["clip_l"]
    assert not torch.allclose(twice[0], twice[1], atol=1e-2)  # never one output row over all places


def test_other_starts():
    pipeline = stable_diffusion()
    table = towers(pipeline)[0].table
    assert torch.equal(method(start="raw").rows(pipeline, "red cat")["clip_l"], rows_of(pipeline, "red cat")["clip_l"])
    assert torch.allclose(method(start="mean").rows(pipeline, "red cat")["clip_l"], table.mean(0).expand(2, -1))
    random = [method(start="random").rows(pipeline, "cat", seed)["clip_l"] for seed in (0, 0, 1)]
    assert torch.equal(random[0], random[1])
    assert not torch.equal(random[0], random[2])
    assert 0.3 < random[0].norm() / table.norm(dim=1).mean() < 3


def test_the_pull_to_the_start_has_its_closed_form():
    torch.manual_seed(0)
    start = torch.randn(3, 8, dtype=torch.float64)
    rows = (start + torch.randn(3, 8)).requires_grad_()
    gap = (rows - start).detach()
    (grad,) = torch.autograd.grad(distance(rows, start), rows)
    assert torch.allclose(grad, gap / gap.norm(dim=1, keepdim=True) / 3)
    (grad,) = torch.autograd.grad(distance(rows, start, squared=True), rows)
    assert torch.allclose(grad, 2 * gap / 3)
    at_start = start.clone().requires_grad_()
    (grad,) = torch.autograd.grad(distance(at_start, start), at_start)
    assert grad.isfinite().all()


def test_no_step_is_the_start_and_a_strong_pull_stays_there():
    pipeline = stable_diffusion()
    start = method().rows(pipeline, "cat")["clip_l"]
    assert torch.equal(learned(pipeline, Plan(steps=0)).concept.rows["clip_l"], start)
    free, held = (learned(pipeline, Plan(steps=20), lam=lam).concept.rows["clip_l"] - start for lam in (0.0, 1e6))
    assert held.norm() < free.norm() / 3


def test_only_the_rows_move_and_their_way_is_told(tmp_path):
    pipeline = stable_diffusion_xl()
    before = {
        name: value.clone() for part in (pipeline.unet, *(t.encoder for t in towers(pipeline))) for name, value in part.state_dict().items()
    }
    taught = learned(pipeline, Plan(steps=3, accumulate=2), weight_decay=0.5)
    after = {name: value for part in (pipeline.unet, *(t.encoder for t in towers(pipeline))) for name, value in part.state_dict().items()}
    assert all(torch.equal(before[name], value) for name, value in after.items())
    assert taught.parameters == 16 + 24
    assert taught.facts["norm_start"] == pytest.approx(4, rel=1e-3)
    assert taught.facts["norm_ratio"] == pytest.approx(taught.facts["norm"] / taught.facts["norm_start"])
    assert taught.facts["cosine_to_start"] < 1
    taught.concept.save(tmp_path)
    with together(pipeline, [load_concept(tmp_path)]):
        assert encode(pipeline, ["a <my-cat>"]).embeds.isfinite().all()


def test_velocity_and_the_fast_mode():
    pipeline = stable_diffusion(prediction_type="v_prediction")
    short = learned(pipeline, Plan(), fast=True)
    assert short.curve[-1][0] == 25
    slow = learned(pipeline, Plan(steps=25))
    assert short.facts["cosine_to_start"] < slow.facts["cosine_to_start"]


def test_what_cannot_be(tmp_path):
    pipeline = stable_diffusion()
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "short.txt").write_text("cat\ndog\n")
    with pytest.raises(CorpusError, match="no such file"):
        method(names=tmp_path / "none.txt").rows(pipeline, "cat")
    with pytest.raises(CorpusError, match="no name in it"):
        method(names=tmp_path / "empty.txt").rows(pipeline, "cat")
    with pytest.raises(CorpusError, match="none of 2 pieces: give other names, or set vectors=1"):
        method(names=tmp_path / "short.txt").rows(pipeline, "cat")
    with pytest.raises(ParameterError, match="more pieces than a prompt"):
        method(vectors=30).rows(pipeline, "cat")
    with pytest.raises(ParameterError, match="start="):
        resolve("concept-method", "cross-initialization", {"start": "warm"})


def test_names_from_the_command_line(pipeline_dir, pictures_dir, tmp_path):
    (tmp_path / "names.txt").write_text("red cat\nblue dog\n")
    asked = [
        "--images",
        pictures_dir,
        "--word",
        "<my-cat>",
        "--init",
        "person",
        "--kind",
        "face",
        "--set",
        f"names={tmp_path / 'names.txt'}",
    ]
    fast = [
        "--set",
        f"names={tmp_path / 'names.txt'}",
        "--steps",
        "2",
        "--preview",
        "0",
        "--method",
        "cross-initialization",
        "--out",
        tmp_path / "c",
    ]
    found = CliRunner().invoke(app, [str(one) for one in ("concept", "learn", pipeline_dir, *asked, *fast)])
    assert found.exit_code == 0, found.output
    assert load_concept(tmp_path / "c").rows["clip_l"].shape == (2, 16)
