"""Teaching from the command line: what is written, what is refused, and that a stopped run goes on."""

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from regraft.cli.app import app
from regraft.concepts.concept import load_concept
from regraft.concepts.host.images import read_pictures
from regraft.concepts.host.pipeline import open_pipeline
from regraft.concepts.learn import Materials, learn
from regraft.concepts.learning import descend
from regraft.concepts.method import Lesson, Plan
from regraft.concepts.methods.textual_inversion import TextualInversion
from regraft.errors import CheckpointError, CorpusError, InputError, ParameterError
from toys.pipelines import SIDE, pictures, stable_diffusion

FAST = ["--steps", "6", "--sampling-steps", "2", "--preview", "1", "--method", "textual-inversion"]


def call(*arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = CliRunner().invoke(app, [str(one) for one in arguments])
    return found.exit_code, found.stdout, found.stderr


@pytest.mark.parametrize("kind", ["sd", "xl"])
def test_a_word_is_taught_and_drawn(kind, request, pictures_dir, tmp_path):
    pipeline = request.getfixturevalue("pipeline_dir" if kind == "sd" else "xl_dir")
    before = {path: path.read_bytes() for path in pipeline.rglob("*") if path.is_file()}
    asked = [pipeline, "--images", pictures_dir, "--word", "<my-cat>", "--init", "cat"]
    code, out, err = call("concept", "learn", *asked, "--out", tmp_path / "c", *FAST, "--set", "vectors=2", "--json")
    assert code == 0, err
    figures = json.loads(out)
    assert figures["steps"] == 6
    assert {"loss_before", "loss_after", "norm_ratio", "context_cosine", "verdict"} <= figures.keys()
    widths = {"<my-cat>": (2, 16)} if kind == "sd" else {"clip_l": (2, 16), "clip_g": (2, 24)}
    assert {name: tuple(value.shape) for name, value in load_file(tmp_path / "c" / "learned_embeds.safetensors").items()} == widths
    record = json.loads((tmp_path / "c" / "regraft.json").read_text())
    assert record["method"]["name"] == "textual-inversion"
    assert "The concept &lt;my-cat&gt;" in (tmp_path / "c" / "report.html").read_text()
    picture = tmp_path / "drawn.png"
    more = ["--concept", tmp_path / "c", "--prompt", "a <my-cat> on a red background", "--sampling-steps", "2", "--count", "2"]
    code, out, err = call("concept", "draw", pipeline, *more, "--out", picture, "--json")
    assert code == 0, err
    assert [Image.open(path).size for path in json.loads(out)["images"]] == [(SIDE, SIDE), (SIDE, SIDE), (2 * SIDE, SIDE)]
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_stopped_run_ends_where_one_that_was_not_does(pipeline_dir, pictures_dir, tmp_path, monkeypatch):
    import regraft.concepts.learning as learning

    monkeypatch.setattr(learning, "KEPT_EVERY", 4)
    given = Materials(pipeline=str(pipeline_dir), images=pictures_dir, word="<a>", init="cat")
    whole = learn(given, "textual-inversion", out=tmp_path / "whole", plan=Plan(steps=10), preview=0)

    real, calls = torch.optim.AdamW.step, []

    def broken(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", broken)
    with pytest.raises(KeyboardInterrupt):
        learn(given, "textual-inversion", out=tmp_path / "part", plan=Plan(steps=10), preview=0)
    assert not (tmp_path / "part").exists()
    calls.extend([1] * 100)
    part = learn(given, "textual-inversion", out=tmp_path / "part", plan=Plan(steps=10), preview=0)
    assert len(calls) == 107 + 6  # four of ten steps were not made again
    assert torch.equal(part.concept.rows["clip_l"], whole.concept.rows["clip_l"])
    assert not list(tmp_path.glob(".*.learning"))


def test_a_loss_that_is_no_number_ends_with_the_last_good_state():
    lesson = Lesson(stable_diffusion(), pictures(), "<a>", "cat")
    method = TextualInversion(steps=20, lr=1e30)
    learned = method.learn(lesson, Plan())
    assert "no longer a number" in learned.stopped
    assert bool(learned.concept.rows["clip_l"].isfinite().all())


def test_learning_that_no_gradient_reaches_is_declared_failed():
    from regraft.concepts.host.diffusion import Diffusion

    lesson = Lesson(stable_diffusion(), pictures(), "<a>", "cat")
    value = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(ParameterError, match="no gradient reaches"):
        descend(
            Diffusion(lesson.pipeline, lesson.pictures.images),
            {"x": value},
            lambda step: (value * 0).sum(),
            TextualInversion(),
            Plan(steps=2),
        )


def test_velocity_is_learned_as_velocity():
    from regraft.concepts.host.diffusion import Diffusion

    diffusion = Diffusion(stable_diffusion(prediction_type="v_prediction"), pictures().images)
    batch = diffusion.grid(3)[1]
    a = diffusion.scheduler.alphas_cumprod[batch.t][:, None, None, None]
    assert torch.allclose(diffusion.target(batch), a.sqrt() * batch.noise - (1 - a).sqrt() * batch.latents, atol=1e-6)


def test_captions_beside_pictures_are_used(pictures_dir, monkeypatch):
    import regraft.concepts.learning as learning

    (pictures_dir / "0.txt").write_text("a red {} on a background")
    (pictures_dir / "1.txt").write_text("says nothing of it")
    told, real = set(), learning.encode
    monkeypatch.setattr(learning, "encode", lambda pipeline, prompts: told.update(prompts) or real(pipeline, prompts))
    lesson = Lesson(stable_diffusion(), read_pictures(pictures_dir, SIDE), "<a>", "cat")
    TextualInversion(steps=3).learn(lesson, Plan())
    assert "a red <a> on a background" in told
    assert all("<a>" in one for one in told)


def test_gray_and_odd_sizes_are_told(pictures_dir):
    Image.fromarray(np.zeros((20, 40), dtype=np.uint8)).save(pictures_dir / "gray.png")
    found = read_pictures(pictures_dir, SIDE)
    assert found.images.shape == (5, 3, SIDE, SIDE)
    assert found.notes[0].startswith("1 of 5 images are gray")
    assert "2 size(s)" in found.notes[1]


def test_one_picture_is_told(pictures_dir):
    for number in range(1, 4):
        (pictures_dir / f"{number}.png").unlink()
    assert "one image" in read_pictures(pictures_dir, SIDE).notes[-1]


def test_what_cannot_be_taught_is_one_line(pipeline_dir, pictures_dir, tmp_path):
    def refused(*changes, say):
        given = {"--images": pictures_dir, "--word": "<a>", "--init": "cat", "--out": tmp_path / "out"} | dict(changes)
        code, _, err = call(
            "concept", "learn", given.pop("pipeline", pipeline_dir), *(part for pair in given.items() for part in pair), *FAST
        )
        assert code == 2
        assert say in err.replace("\n", " ")
        assert not (tmp_path / "out").exists()

    refused(("--word", "cat"), say="knows it already")
    refused(("--init", "kitten"), say="is 6 pieces to this tokenizer")
    refused(("--init", ""), say="is empty")
    refused(("--images", tmp_path / "none"), say="no such folder of images")
    refused(("--kind", "person"), say="choose object, style, face")
    refused(("pipeline", tmp_path), say="no pipeline of diffusers can be opened there")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.png").write_bytes(b"no image")
    refused(("--images", broken), say="not an image that can be read")


def test_a_prompt_without_the_word_is_refused(pipeline_dir, pictures_dir, tmp_path):
    given = Materials(pipeline=str(pipeline_dir), images=pictures_dir, word="<a>", init="cat")
    learn(given, "textual-inversion", out=tmp_path / "c", plan=Plan(steps=1), preview=0)
    code, _, err = call("concept", "draw", pipeline_dir, "--concept", tmp_path / "c", "--prompt", "a cat", "--out", tmp_path / "x.png")
    assert code == 2
    assert "does not hold <a>" in err
    assert load_concept(tmp_path / "c").init == "cat"


def test_a_pipeline_without_a_text_encoder_is_refused(tmp_path):
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    unet = UNet2DModel(
        sample_size=8, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1, down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path / "p")
    with pytest.raises(CheckpointError, match="has no text encoder"):
        open_pipeline(tmp_path / "p")


def test_templates_have_one_place_for_the_word(tmp_path):
    from regraft.concepts.host.captions import read_templates

    (tmp_path / "t.txt").write_text("a photo of {}\na photo\n")
    with pytest.raises(CorpusError, match="line 2"):
        read_templates(tmp_path / "t.txt")
    assert issubclass(CorpusError, InputError)
