"""Strengths beside each other: images, scores, pages; prompts of two concepts mixed; where a U-Net looks."""

import json
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from test_learn import call

from regraft.concepts.concept import together
from regraft.concepts.drawing import Drawing, draw
from regraft.concepts.host.pipeline import encode, towers
from regraft.concepts.judges.judge import Judge
from regraft.concepts.kinds.word import WordConcept
from regraft.concepts.steering.maps import attention_maps
from regraft.concepts.steering.mixing import Side, mixed
from regraft.concepts.steering.projection import basis, projected
from regraft.concepts.steering.steering import steer, steered
from regraft.concepts.steering.sweep import Asked, plain, sweep, write_sweep
from regraft.errors import OutputError, ParameterError
from toys.pipelines import SIDE, pictures, stable_diffusion, stable_diffusion_xl

PROMPT = "a red three in sks style"
FAST = Drawing(steps=2)


@dataclass(frozen=True)
class Brightness(Judge):
    accuracy: dict = field(default_factory=lambda: {"identity": 0.875})

    def identity(self, images):
        return images.mean((1, 2, 3)).double().numpy()

    def match(self, images, prompts):
        return np.array([float("digit" in prompt) for prompt in prompts])


def taught(pipeline):
    torch.manual_seed(5)
    return WordConcept("<my-digit>", {tower.key: torch.randn(2, tower.width) for tower in towers(pipeline)}, "digit")


def test_each_strength_is_what_drawing_by_hand_gives():
    pipeline = stable_diffusion()
    concept, asked = taught(pipeline), Asked(prompts=("a <my-digit>", "a red three"), unwanted=("red",), strengths=(0.0, 1.0), copies=2)
    found = sweep(pipeline, [concept], asked, FAST, Brightness())
    prompts = ["a <my-digit>", "a <my-digit>", "a red three", "a red three"]
    with together(pipeline, [concept]):
        assert torch.equal(found.images[0.0], draw(pipeline, [], prompts, FAST))
        again = draw(pipeline, [], prompts, FAST, steer=lambda pipe, given, context: steered(pipe, given, ["red"], 1.0))
    assert torch.allclose(found.images[1.0], again)
    assert not torch.allclose(found.images[1.0], found.images[0.0])
    row = found.rows[1]
    bright = found.images[1.0].mean((1, 2, 3)).double().numpy()
    assert row["strength"] == 1
    assert row["identity"] == pytest.approx(bright.mean())
    assert row["identity_half_width"] == pytest.approx(1.96 * bright.std(ddof=1) / 2)
    assert row["prompt_match"] == 0.5  # the judge reads the word that the concept is a case of
    assert row["joint"] == pytest.approx(bright[:2].sum() / 4)


def test_a_judge_reads_known_words():
    pipeline = stable_diffusion()
    assert plain("a <my-digit>", [taught(pipeline)]) == "a digit"
    assert plain("a sks", [WordConcept("sks", {}, "digit")]) == "a digit"


def test_a_directory_with_a_page(tmp_path):
    pipeline = stable_diffusion()
    asked = Asked(prompts=(PROMPT,), unwanted=("digit",), strengths=(0.0, 0.5), copies=2, settings={"undesired": "pad"})
    report, figures = write_sweep(pipeline, [], asked, FAST, Brightness(), source="somewhere", out=tmp_path / "s")
    assert {path.relative_to(tmp_path / "s").as_posix() for path in (tmp_path / "s").rglob("*.*")} >= {
        "images/0/0.png", "images/0/1.png", "images/0.5/0.png", "sweep.json", "report.html", "regraft.json",
    }  # fmt: skip
    kept = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert kept["rows"] == figures["rows"]
    assert [row["token"] for row in kept["lost"]][1:4] == ["a", "red", "three"]
    assert "identity 87.5%" in report.lead
    assert len(kept["components"]) == 8
    with pytest.raises(OutputError):
        write_sweep(pipeline, [], asked, FAST, source="somewhere", out=tmp_path / "s")


def test_the_verb(pipeline_dir, tmp_path):
    given = ["--prompt", PROMPT, "--remove", "digit", "--strengths", "1,0", "--copies", "1", "--sampling-steps", "1"]
    code, out, err = call("concept", "sweep", pipeline_dir, *given, "--out", tmp_path / "s", "--json")
    assert code == 0, err
    assert [row["strength"] for row in json.loads(out)["rows"]] == [0.0, 1.0]
    assert "not judged" in (tmp_path / "s" / "report.html").read_text()

    def refused(*more, say):
        code, _, err = call("concept", "sweep", pipeline_dir, *given, *more, "--out", tmp_path / "t")
        assert code == 2
        assert say in " ".join(err.split())
        assert not (tmp_path / "t").exists()

    refused("--strengths", "0,much", say="write numbers separated by commas")
    refused("--strengths", "2", say="strength 2: give 0")
    refused("--remove", "", say="give a word or a phrase")
    refused("--set", "undesired=all", say="undesired='all' is not accepted")
    refused("--steer", "decors", say="did you mean decor")
    refused("--judge", "some/clip", say="give --images too")


def test_presets_by_task():
    pipeline = stable_diffusion()
    before = encode(pipeline, [PROMPT])
    words, whole = encode(pipeline, ["digit"]).embeds[0, 1:2], encode(pipeline, ["digit"]).embeds[0, 1:]
    style = steer(["digit"])(pipeline, [PROMPT], before).embeds
    person = steer(["digit"], task="personalization")(pipeline, [PROMPT], before).embeds
    assert torch.allclose(style, projected(before.embeds, basis(words), 1.0), atol=1e-5)
    assert torch.allclose(person, projected(before.embeds, basis(whole), 0.5), atol=1e-5)
    with pytest.raises(ParameterError, match="choose stylization or personalization"):
        steer(["digit"], task="style")
    with pytest.raises(ParameterError, match="--strength nan"):
        steer(["digit"], float("nan"))


@pytest.mark.parametrize("make", [stable_diffusion, stable_diffusion_xl])
def test_content_and_style_lose_each_others_words(make):
    pipeline = make()
    content, style = Side(prompt="a photo of a three", words=("three",)), Side(prompt="a digit in sks style", words=("sks",))
    both, one, two = mixed(pipeline, content, style, share=0.25)
    three, sks = encode(pipeline, [content.prompt]).embeds[0, 5], encode(pipeline, [style.prompt]).embeds[0, 4]
    assert torch.allclose(one.embeds[0] @ sks, torch.zeros(one.embeds.shape[1]), atol=1e-4)
    assert torch.allclose(two.embeds[0] @ three, torch.zeros(two.embeds.shape[1]), atol=1e-4)
    assert torch.allclose(both.embeds, 0.75 * one.embeds + 0.25 * two.embeds, atol=1e-5)
    assert (both.pooled is None) == (make is stable_diffusion)
    with pytest.raises(ParameterError, match="share=2"):
        mixed(pipeline, content, style, share=2)
    with pytest.raises(ParameterError, match="does not hold the word red"):
        mixed(pipeline, Side(prompt="a three", words=("red",)), style)


def test_maps_sum_to_one_and_change_with_the_prompt():
    pipeline = stable_diffusion()
    images = pictures(2).images
    before = encode(pipeline, [PROMPT, PROMPT])
    maps = attention_maps(pipeline, images, before, times=2)
    assert maps.shape == (2, before.embeds.shape[1], SIDE // 4, SIDE // 4)
    assert torch.allclose(maps.sum(1), torch.ones(2, SIDE // 4, SIDE // 4), atol=1e-5)
    after = steered(pipeline, [PROMPT, PROMPT], ["red"], 1.0)
    assert not torch.allclose(maps, attention_maps(pipeline, images, after, times=2), atol=1e-6)
    assert torch.equal(maps, attention_maps(pipeline, images, steered(pipeline, [PROMPT, PROMPT], ["red"], 0.0), times=2))
