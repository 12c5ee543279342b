"""Experts in checkpoints: what is written, what plain `transformers` makes of it, and the way back."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file
from typer.testing import CliRunner

from regraft.cli import app
from regraft.errors import ParameterError
from regraft.grow.experts import convert, installed, load
from toys.checkpoints import MODELS, V, edit_json, outputs, refusal

IDS = torch.randint(3, V, (2, 12), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    root = tmp_path_factory.mktemp("dense")
    for name in ("llama", "llama-tied", "qwen2", "qwen3", "bert", "gpt2", "t5"):
        torch.manual_seed(0)
        model = MODELS[name](transformers)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        model.save_pretrained(root / name)
    return root


def opened(folder):
    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    return getattr(transformers, architecture).from_pretrained(folder).eval()


@pytest.mark.parametrize("name", ["llama-tied", "bert", "gpt2", "t5"])
def test_a_split_is_an_ordinary_checkpoint_and_comes_back_bit_for_bit(name, sources, tmp_path):
    dense = outputs(opened(sources / name), IDS)
    figures = convert.grow(sources / name, settings={"experts": 4, "top_k": 2, "layers": "all"}, out=tmp_path / "split")
    assert figures["parameters"] == figures["parameters_before"]
    plain, info = getattr(transformers, json.loads((sources / name / "config.json").read_text())["architectures"][0]).from_pretrained(
        tmp_path / "split", output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert (outputs(plain.eval(), IDS) - dense).abs().max() < 1e-5
    model = load(tmp_path / "split")
    assert (outputs(model, IDS) - dense).abs().max() > 1e-4
    assert (outputs(load(tmp_path / "split", top_k=4), IDS) - dense).abs().max() < 1e-5
    assert torch.allclose(outputs(load(tmp_path / "split", mode="grouped"), IDS), outputs(model, IDS), atol=1e-5)
    record = json.loads((tmp_path / "split" / "regraft.json").read_text())
    assert record["method"]["name"] == "emoe"
    assert "experts.json" in record["files"]
    assert any(note.startswith("neurons moved in: ") for note in record["notes"])
    convert.to_dense(tmp_path / "split", out=tmp_path / "dense")
    old, new = load_file(sources / name / "model.safetensors"), load_file(tmp_path / "dense" / "model.safetensors")
    assert old.keys() == new.keys()
    assert all(torch.equal(old[key], new[key]) for key in old)
    assert not (tmp_path / "dense" / "experts.json").exists()


def test_what_a_trainer_saves_still_routes_and_merges_back(sources, tmp_path):
    convert.grow(sources / "bert", settings={"experts": 4, "top_k": 2, "layers": "1", "gate": "learned"}, out=tmp_path / "split")
    model = load(tmp_path / "split")
    learned = dict(model.named_parameters())["encoder.layer.1.intermediate.expert_router.directions"]
    assert torch.equal(
        learned, load_file(tmp_path / "split" / "model.safetensors")["encoder.layer.1.intermediate.expert_router.directions"]
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.01)
    model.save_pretrained(tmp_path / "trained")
    again = load(tmp_path / "trained")
    assert torch.equal(outputs(again, IDS), outputs(model, IDS))
    convert.to_dense(tmp_path / "trained", out=tmp_path / "dense")
    installed(model).use("dense")
    back, info = transformers.BertModel.from_pretrained(tmp_path / "dense", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert torch.allclose(outputs(back.eval(), IDS), outputs(model, IDS), atol=1e-6)
    assert "regraft_experts" not in json.loads((tmp_path / "dense" / "config.json").read_text())


@pytest.mark.parametrize(
    ("name", "layers", "architecture"),
    [("llama", "auto", "MixtralForCausalLM"), ("llama-tied", "0", "Qwen2MoeForCausalLM"), ("qwen2", "auto", "Qwen2MoeForCausalLM"),
     ("qwen3", "auto", "Qwen3MoeForCausalLM")],
)  # fmt: skip
@pytest.mark.parametrize("top_k", [1, 2])
def test_upcycled_decoders_are_mixtures_of_transformers_that_start_as_the_dense_model(name, layers, architecture, top_k, sources, tmp_path):
    dense = outputs(opened(sources / name), IDS)
    settings = {"experts": 4, "top_k": top_k, "layers": layers}
    convert.grow(sources / name, method="upcycle", settings=settings, out=tmp_path / "mixture")
    model, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "mixture", output_loading_info=True)
    assert type(model).__name__ == architecture
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    assert (outputs(model.eval(), IDS) - dense).abs().max() < 1e-5
    loss = model(input_ids=IDS, labels=IDS).loss
    loss.backward()
    assert all(p.grad.abs().sum() > 0 for name, p in model.named_parameters() if "mlp.experts." in name)


@pytest.mark.parametrize(("name", "layers"), [("llama", "all"), ("llama", "1"), ("qwen3", "0")])
def test_a_split_exported_as_a_mixture_gives_the_masked_model(name, layers, sources, tmp_path):
    settings = {"experts": 3, "top_k": 2, "layers": layers}
    convert.grow(sources / name, settings=settings, out=tmp_path / "split")
    convert.grow(sources / name, settings={**settings, "form": "mixture", "sharpness": 1e-4}, out=tmp_path / "mixture")
    masked, mixture = outputs(load(tmp_path / "split"), IDS), outputs(opened(tmp_path / "mixture"), IDS)
    dense = outputs(opened(sources / name), IDS)
    assert (mixture - masked).abs().max() < 1e-3 < (masked - dense).abs().max()
    everyone = {"experts": 4, "top_k": 4, "layers": layers, "form": "mixture", "sharpness": 1e-6}
    figures = convert.grow(sources / name, settings=everyone, out=tmp_path / "everyone")
    assert any("experts_implementation='eager'" in note for note in figures["notes"])
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "everyone", experts_implementation="eager").eval()
    assert (outputs(model, IDS) - dense).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_copies_open_in_plain_transformers_and_as_the_mixture(name, sources, tmp_path):
    dense = outputs(opened(sources / name), IDS)
    figures = convert.grow(sources / name, method="upcycle", settings={"experts": 4, "top_k": 2}, out=tmp_path / "copies")
    assert figures["parameters"] > figures["parameters_before"]
    assert torch.equal(outputs(opened(tmp_path / "copies"), IDS), dense)
    model = load(tmp_path / "copies")
    assert (outputs(model, IDS) - dense).abs().max() < 1e-5
    stored = load_file(tmp_path / "copies" / "model.safetensors")
    fresh = {name: p for name, p in model.named_parameters() if "expert_copies" in name}
    assert fresh
    assert all(torch.equal(p, stored[name]) for name, p in fresh.items())
    convert.to_dense(tmp_path / "copies", out=tmp_path / "dense")
    assert torch.equal(outputs(opened(tmp_path / "dense"), IDS), dense)


def test_sharded_checkpoints_keep_their_index(sources, tmp_path):
    model = opened(sources / "llama")
    model.save_pretrained(tmp_path / "sharded", max_shard_size="10KB")
    convert.grow(tmp_path / "sharded", method="upcycle", settings={"experts": 2, "top_k": 1}, out=tmp_path / "mixture")
    assert (outputs(opened(tmp_path / "mixture"), IDS) - outputs(model, IDS)).abs().max() < 1e-5


def test_bad_input_is_one_line_and_leaves_nothing(sources, tmp_path):
    split = tmp_path / "split"
    convert.grow(sources / "llama", settings={"experts": 4, "top_k": 2}, out=split)

    def refused(source, **settings):
        method = settings.pop("method", "emoe")
        return refusal(convert.grow, source, method=method, settings={"experts": 4, "top_k": 2, **settings}, out=tmp_path / "out")

    assert "take it back first" in refused(split)
    assert "do not divide" in refused(sources / "llama", experts=7)
    assert "no mixture architecture" in refused(sources / "bert", form="mixture")
    assert "every layer is a mixture" not in refused(sources / "gpt2", form="mixture", method="upcycle")
    assert "take 1 to 4" in refused(sources / "llama", top_k=8, method="upcycle")
    assert "form=copies" in refused(sources / "llama", form="mixture", gate="learned", method="upcycle")
    assert "no parameter 'expert'" in refused(sources / "llama", expert=3)
    assert "regraft undo" in refusal(convert.to_dense, sources / "llama", out=tmp_path / "out")
    for broken in ("{", '{"schema": 1}', '{"schema": 9}', json.dumps({**json.loads((split / "experts.json").read_text()), "top_k": 9})):
        (split / "experts.json").write_text(broken)
        assert "not a split of experts" in refusal(load, split)
    (split / "experts.json").unlink()
    assert "has no experts.json" in refusal(load, split)
    edit_json(sources / "qwen2" / "config.json", use_sliding_window=True)
    assert "use_sliding_window" in refused(sources / "qwen2", method="upcycle")
    edit_json(sources / "qwen2" / "config.json", use_sliding_window=False)
    assert not (tmp_path / "out").exists()
    convert.grow(sources / "llama", settings={"experts": 4, "top_k": 2}, out=split, overwrite=True)
    with pytest.raises(ParameterError, match="take 1 to 4"):
        load(split, top_k=5)


def test_the_command(sources, tmp_path):
    run = CliRunner().invoke
    out = str(tmp_path / "split")
    done = run(app, ["grow", "experts", str(sources / "llama"), "--experts", "4", "--top-k", "2", "--out", out, "--dry-run", "--json"])
    assert done.exit_code == 0
    assert not (tmp_path / "split").exists()
    done = run(app, ["grow", "experts", str(sources / "llama"), "--experts", "4", "--top-k", "2", "--layers", "1", "--out", out, "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["layers"] == 1
    done = run(app, ["grow", "experts", out, "--to-dense", "--out", str(tmp_path / "dense")])
    assert done.exit_code == 0
    assert "AutoModelForCausalLM.from_pretrained" in done.stdout
    bad = run(app, ["grow", "experts", out, "--to-dense", "--experts", "3", "--out", str(tmp_path / "dense2")])
    assert bad.exit_code == 2
