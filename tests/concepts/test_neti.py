"""NeTI and XTI: taught, saved, drawn again, gone on with; the released code's files; what cannot be."""

import json

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from regraft.cli.app import app
from regraft.concepts.concept import load_concept
from regraft.concepts.host.diffusion import Diffusion
from regraft.concepts.host.words import spliced
from regraft.concepts.kinds.mapper import FILE
from regraft.concepts.method import Lesson, Plan
from regraft.concepts.methods.neti import NeTI
from regraft.concepts.methods.xti import XTI
from regraft.concepts.spacetime.networks import Mapper, Shape
from regraft.concepts.spacetime.readers import reading_by
from regraft.errors import CheckpointError, ParameterError
from regraft.method import resolve
from toys.pipelines import pictures, stable_diffusion, stable_diffusion_xl
from toys.spacetime import TIMES, drawn, rows, taught

SMALL = {"hidden": 16, "frequencies": 64, "batch": 2, "lr": 1e-2}
PROMPT = ["a photo of a <my-cat>"]


def lesson(pipeline, **given):
    return Lesson(pipeline, pictures(), "<my-cat>", **{"init": "digit", **given})


def learned(pipeline, method, steps=4, **given):
    return resolve("concept-method", method, given).learn(lesson(pipeline), Plan(steps=steps))


@pytest.fixture(scope="module")
def after_steps():
    pipeline = stable_diffusion()
    return pipeline, learned(pipeline, "neti", **SMALL)


def test_from_the_command_line_and_truncated_when_drawn(pipeline_dir, pictures_dir, tmp_path):
    def call(*arguments):
        found = CliRunner().invoke(app, ["concept", *map(str, arguments)])
        return found.exit_code, found.stdout, found.stderr

    asked = [pipeline_dir, "--images", pictures_dir, "--word", "<my-cat>", "--init", "digit", "--method", "neti", "--set", "hidden=16"]
    code, out, err = call("learn", *asked, "--steps", 2, "--sampling-steps", 2, "--preview", 1, "--out", tmp_path / "c", "--json")
    assert code == 0, err
    assert {"loss_after", "cosine_over_time", "context_cosine"} <= json.loads(out).keys()
    more = ["--concept", tmp_path / "c", "--prompt", PROMPT[0], "--sampling-steps", 2, "--out", tmp_path / "drawn.png"]
    seen = []
    for keep in ([], ["--truncate", 2], ["--truncate", 16]):
        code, _, err = call("draw", pipeline_dir, *more, *keep)
        assert code == 0, err
        seen.append((tmp_path / "drawn.png").read_bytes())
    assert seen[0] == seen[2] != seen[1]
    code, _, err = call("draw", pipeline_dir, *more, "--truncate", 17)
    assert code == 2
    assert "16 hidden units: give 0 to 16" in " ".join(err.split())


@pytest.mark.parametrize(("make", "method"), [(stable_diffusion_xl, "neti"), (stable_diffusion_xl, "xti"), (stable_diffusion, "xti")])
def test_networks_learn_in_both_kinds_of_pipeline(make, method, tmp_path):
    pipeline = make()
    found = learned(pipeline, method, **(SMALL if method == "neti" else {"batch": 2, "lr": 1e-2}))
    assert found.stopped is None
    assert found.parameters == sum(value.numel() for value in found.concept.net.parameters())
    if method == "xti":
        assert found.facts["cosine_over_time"] == pytest.approx(1)
        assert found.facts["cosine_over_layers"] < 1 - 1e-4
    else:
        assert found.facts["cosine_over_time"] < 1 - 1e-3
    found.concept.save(tmp_path)
    again = load_concept(tmp_path)
    assert torch.equal(drawn(make(), [again], PROMPT), drawn(pipeline, [found.concept], PROMPT))


def test_saved_and_read_again_it_draws_the_same(after_steps, tmp_path):
    pipeline, found = after_steps
    for name, concept in {"whole": found.concept, "cut": found.concept.truncated(5)}.items():
        (tmp_path / name).mkdir()
        concept.save(tmp_path / name)
    whole, cut = (load_concept(tmp_path / name) for name in ("whole", "cut"))
    assert torch.equal(whole.net.w, found.concept.net.w)
    first = drawn(pipeline, [found.concept], PROMPT)
    assert torch.equal(drawn(pipeline, [whole], PROMPT), first)
    assert torch.equal(drawn(pipeline, [cut], PROMPT), drawn(pipeline, [found.concept.truncated(5)], PROMPT))
    assert not torch.equal(drawn(pipeline, [cut], PROMPT), first)
    assert torch.equal(drawn(pipeline, [found.concept.truncated(16)], PROMPT), first)


def test_a_run_that_goes_on_is_the_run_that_was_never_stopped(after_steps, tmp_path, monkeypatch):
    from regraft.concepts import learning

    monkeypatch.setattr(learning, "KEPT_EVERY", 2)
    pipeline, found = after_steps
    method, state = NeTI(**SMALL), tmp_path / "state"

    class StopError(Exception):
        pass

    losses, seen = Diffusion.losses, []

    def stopping(*args):
        seen.append(1)
        if len(seen) > 3:
            raise StopError
        return losses(*args)

    monkeypatch.setattr(Diffusion, "losses", stopping)
    with pytest.raises(StopError):
        method.learn(lesson(pipeline), Plan(steps=4, state=state))
    monkeypatch.setattr(Diffusion, "losses", losses)
    assert (state / "training.safetensors").is_file()
    assert not any(module._forward_pre_hooks for module in pipeline.unet.modules())
    again = method.learn(lesson(pipeline), Plan(steps=4, state=state))
    kept = found.concept.net.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in again.concept.net.state_dict().items())
    assert not torch.equal(method.learn(lesson(pipeline), Plan(steps=1, seed=1)).concept.net.w, kept["w"])


def test_the_gradient_is_that_of_the_loss():
    """Of the output's bias and the first layer, against a difference in float64, with every layer and time reading its own."""
    pipeline = stable_diffusion().to(torch.float64)
    torch.manual_seed(0)
    net = Mapper(Shape(widths={"clip_l": 16}, lengths={"clip_l": 0.5}, layers=4, hidden=8, anchors=2, frequencies=8)).double()
    diffusion = Diffusion(pipeline, pictures(2).images)
    prompts = ["a photo of a <my-cat>", "the <my-cat>"]
    batch = diffusion.at(torch.arange(2), torch.zeros(2, dtype=torch.bool), torch.tensor([100, 800]), torch.Generator().manual_seed(3))
    with spliced(pipeline, {"<my-cat>": rows(pipeline)}), reading_by(pipeline, "<my-cat>", net) as readers:

        def loss():
            context = readers.teach(prompts, batch.t, torch.Generator().manual_seed(4))
            return torch.nn.functional.mse_loss(pipeline.unet(batch.noisy.double(), batch.t, context.embeds).sample, batch.noise.double())

        loss().backward()
        for parameter in (net.out.bias, net.anchor.weight):
            value, grad = parameter.data.view(-1), parameter.grad.view(-1)
            for place in grad.abs().topk(2).indices:
                kept, found = float(value[place]), []
                for step in (1e-5, -1e-5):
                    value[place] = kept + step
                    with torch.no_grad():
                        found.append(float(loss()))
                value[place] = kept
                assert float(grad[place]) == pytest.approx((found[0] - found[1]) / 2e-5, rel=1e-4)


def released(bypass=True):
    """Tensors as the released code's state_dict calls them, beside ours in its place."""
    concept = taught(stable_diffusion(), norm="joint", bypass=bypass, anchors=10)
    names = {"anchor": "input_layer", "body.0": "net.1", "body.1": "net.2", "body.3": "net.4", "body.4": "net.5", "out": "output_layer.0"}
    tensors = {}
    for key, value in concept.net.state_dict().items():
        layer, _, part = key.rpartition(".")
        tensors[f"{names[layer]}.{part}" if layer else key] = value.clone()
    tensors |= {f"net.0.{part}": tensors[f"input_layer.{part}"].clone() for part in ("weight", "bias")}
    return concept, tensors | {"row": concept.row["clip_l"][0]}


@pytest.mark.parametrize("bypass", [True, False])
def test_a_mapper_of_the_released_code_is_read_from_its_tensors(tmp_path, bypass):
    concept, tensors = released(bypass=bypass)
    save_file(tensors, tmp_path / "mapper-steps-500.safetensors")
    found = load_concept(tmp_path / "mapper-steps-500.safetensors", "<my-cat>")
    assert (found.word, found.net.shape.norm, found.net.layers) == ("<my-cat>", "joint", 4)
    expected, read = concept.net(TIMES).base["clip_l"], found.net(TIMES).base["clip_l"]
    assert torch.allclose(read / read.norm(), expected / expected.norm(), atol=1e-7)
    assert float(read.norm(dim=-1).mean()) == pytest.approx(
        float((expected.norm(dim=-1) / 0.5 * concept.row["clip_l"].norm()).mean()), rel=1e-5
    )


def test_files_that_are_no_mapper(tmp_path):
    (tmp_path / "mapper-steps-500.pt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="a pickle is never opened: save its state_dict"):
        load_concept(tmp_path / "mapper-steps-500.pt")
    _, tensors = released()
    save_file({key: value for key, value in tensors.items() if key != "w"}, tmp_path / "mapper.safetensors")
    with pytest.raises(CheckpointError, match="it has no 'w'"):
        load_concept(tmp_path / "mapper.safetensors")
    save_file({**tensors, "net.2.weight": torch.ones(3)}, tmp_path / "mapper.safetensors")
    with pytest.raises(CheckpointError, match="not the weights of the network"):
        load_concept(tmp_path / "mapper.safetensors")


def test_a_folder_whose_parts_do_not_fit(after_steps, tmp_path):
    _, found = after_steps
    found.concept.save(tmp_path)
    told = (tmp_path / "concept.json").read_text()
    (tmp_path / "concept.json").write_text(told.replace('"hidden": 16', '"hidden": 8'))
    with pytest.raises(CheckpointError, match="not the weights of the network"):
        load_concept(tmp_path)
    (tmp_path / "concept.json").write_text(told.replace('"layers": 4', '"floors": 4'))
    with pytest.raises(CheckpointError, match="not a concept that can be read"):
        load_concept(tmp_path)
    (tmp_path / "concept.json").write_text(told)
    state = found.concept.net.state_dict()
    save_file({**state, "out.bias": state["out.bias"] * float("nan"), "row.clip_l": found.concept.row["clip_l"]}, tmp_path / FILE)
    with pytest.raises(CheckpointError, match=r"out\.bias holds numbers that are not finite"):
        load_concept(tmp_path)


@pytest.mark.parametrize("method", [NeTI, XTI])
def test_a_beginning_of_several_pieces_is_refused(method):
    with pytest.raises(ParameterError, match=f"is 6 pieces to this tokenizer: {method.name} starts from one row"):
        method().learn(lesson(stable_diffusion(), init="kitten"), Plan(steps=1))


def test_a_number_that_is_none_ends_the_run_with_the_last_good_state():
    found = learned(stable_diffusion(), "neti", steps=30, **{**SMALL, "lr": 1e30})
    assert "the loss is no longer a number" in found.stopped
    assert all(bool(value.isfinite().all()) for value in found.concept.net.state_dict().values())


def test_rows_of_layers_have_nothing_to_cut():
    with pytest.raises(ParameterError, match="nothing to cut off"):
        learned(stable_diffusion(), "xti", steps=1, batch=1).concept.truncated(3)


def test_settings_that_cannot_be():
    with pytest.raises(ParameterError, match="norm"):
        resolve("concept-method", "neti", {"norm": "both"})
    assert resolve("concept-method", "neti").batch == 8
