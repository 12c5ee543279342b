"""QLoRA: adapters beside weights in NF4, merged into full precision, taken off again, written, and counted."""

import json
import tempfile
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from regraft.cli import app
from regraft.errors import CheckpointError, OutputError, ParameterError
from regraft.training import QLORA, Training, train
from regraft.training.adapters import LoraOptions, tied, untie
from regraft.training.footprint import footprint, full_training
from regraft.training.nf4 import BITS, dequantize, quantize
from regraft.training.quantized import NF4Linear, Quantization, bitsandbytes_layer
from regraft.training.trainable import select
from regraft.vocab.adapt import adapt as adapt_model
from toys import models
from toys.models import bert, gpt2, texts, tokenizer, wordpiece

CORPUS = texts(150, seed=1)
IDS = torch.arange(5, 25).unsqueeze(0)
D, FF, LAYERS, ROWS = 16, 32, 2, 304
llama = partial(models.llama, layers=LAYERS)
LINEAR = 4 * D * D + 3 * D * FF
LINEAR_SIDES = 4 * (D + D) + 3 * (D + FF)
ALL = LoraOptions(r=4, alpha=8, dropout=0.0, tables=True)


def settings(**changes):
    common = {"steps": 3, "block": 16, "batch_size": 2, "lr": 0.05, "parameters": "lora", "quantize": "nf4", "lora_r": 4}
    return Training(**{**common, **changes})


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def logits(model, ids=IDS):
    with torch.no_grad():
        return model.eval()(ids).logits


def stirred(model, options=ALL, quantize="none", **choices):
    """`model` with adapters whose values make a difference, the same ones every time."""
    torch.manual_seed(7)
    trainable = select(model, "lora", [7], lora=options, quantize=quantize, **choices)
    with torch.no_grad():
        for parameter in trainable.parameters.values():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return trainable


class TestWhatTrains:
    def test_gradients_reach_adapters_and_nothing_else(self):
        model = llama(tied=False)
        trainable = select(model, "lora", [], lora=ALL, quantize="nf4")
        model(IDS, labels=IDS).loss.backward()
        with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
        assert with_gradient == set(trainable.parameters) == {n for n, p in model.named_parameters() if p.requires_grad}
        assert all("lora_" in name for name in with_gradient)
        assert model.get_input_embeddings().base_layer.weight.grad is None
        assert model.get_output_embeddings().base_layer.weight.grad is None
        trainable.finish()

    def test_their_number_is_the_formula(self):
        run = train(llama(tied=False), tokenizer(), CORPUS, settings(lora_tables=True))
        assert run.trainable_parameters == 4 * (LAYERS * LINEAR_SIDES + 2 * (ROWS + D))
        base = LAYERS * (LINEAR + 2 * D) + D + 2 * ROWS * D
        assert run.total_parameters == base + run.trainable_parameters

    def test_rank_128_of_llama_2_with_27241_pieces_is_the_reported_share(self):
        with torch.device("meta"):
            model = LlamaForCausalLM(LlamaConfig(vocab_size=59241, intermediate_size=11008, tie_word_embeddings=False))
            full = full_training(model)
            options = LoraOptions(QLORA["lora_r"], QLORA["lora_alpha"], QLORA["lora_dropout"], QLORA["lora_tables"])
            trainable = select(model, "lora", [], lora=options)
        assert trainable.count == 128 * (32 * 78080 + 2 * (59241 + 4096))
        found = footprint(model, trainable.parameters, full)
        assert f"{found.trained / 1e6:.1f} of {found.total / 1e6:.1f}" == "336.0 of 7297.6"
        assert f"{found.share:.2%}" == "4.60%"
        assert [group.share for group in trainable.groups] == [found.share]

    def test_the_base_it_computes_with_is_the_dequantized_one(self):
        model, reference = llama(tied=False), llama(tied=False)
        for module in reference.model.layers.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.data = dequantize(quantize(module.weight))
        trainable = select(model, "lora", [], lora=ALL, quantize="nf4")
        torch.testing.assert_close(logits(model), logits(reference), rtol=1e-4, atol=1e-4)
        held = [module for module in model.modules() if isinstance(module, NF4Linear)]
        assert len(held) == 7 * LAYERS
        assert not isinstance(model.get_output_embeddings().base_layer, NF4Linear)
        trainable.finish()

    def test_a_step_lowers_the_loss_of_what_it_read(self):
        model = llama(tied=False)
        run = train(model, tokenizer(), CORPUS, settings(steps=30, lora_tables=True, lora_alpha=16, batch_size=8, lr=0.02))
        assert run.losses[-1].bits_per_byte < 0.8 * run.losses[0].bits_per_byte


class TestMerging:
    @pytest.mark.parametrize("quantize", ["none", "nf4"])
    def test_merged_is_what_the_adapters_compute_on_full_precision(self, quantize):
        model, plain = llama(tied=False), llama(tied=False)
        trainable = stirred(model, quantize=quantize)
        beside = stirred(plain)
        expected = logits(plain)
        trainable.adapters.merge()
        torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-4)
        trainable.finish()
        torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-4)
        beside.finish()
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(tensor, plain.state_dict()[name], rtol=1e-5, atol=1e-6)

    def test_merging_into_the_quantized_base_would_be_another_model(self):
        """What differs: W - dequantized(W), in every layer, and nothing else."""
        model, plain = llama(tied=False), llama(tied=False)
        trainable = stirred(model, quantize="nf4")
        layer, original = model.model.layers[1].mlp.up_proj, plain.model.layers[1].mlp.up_proj.weight
        update = layer.get_delta_weight("default")
        quantized = layer.base_layer.dequantized()
        trainable.finish()
        merged = model.model.layers[1].mlp.up_proj.weight
        torch.testing.assert_close(merged - (quantized + update), original - quantized, rtol=0, atol=1e-6)
        assert (original - quantized).abs().max() > 0.01

    @pytest.mark.parametrize("quantize", ["none", "nf4"])
    def test_unmerging_restores(self, quantize):
        model = llama(tied=False)
        before = state(model)
        trainable = stirred(model, quantize=quantize)
        expected = logits(model)
        for _ in range(3):
            trainable.adapters.merge()
            assert not torch.allclose(logits(model), expected, atol=1e-2) or quantize == "none"
            trainable.adapters.unmerge()
            torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-4)
        trainable.adapters.merge()
        trainable.adapters.unmerge()
        if trainable.quantization is not None:
            trainable.quantization.suspend()
        for name, parameter in model.named_parameters():
            plain = name.replace(".base_layer", "")
            if plain in before:
                torch.testing.assert_close(parameter, before[plain], rtol=1e-5, atol=1e-6)
        trainable.finish()

    def test_peft_cannot_merge_into_the_quantized_base_by_mistake(self):
        model = llama(tied=False)
        trainable = select(model, "lora", [], lora=ALL, quantize="nf4")
        with pytest.raises(RuntimeError):
            trainable.adapters.model.merge_adapter()
        trainable.finish()


class TestFullPrecision:
    @pytest.mark.parametrize("make", [llama, gpt2, bert])
    @pytest.mark.parametrize("parameters", ["lora", "rows", "embeddings"])
    def test_without_training_every_weight_comes_back_bit_for_bit(self, make, parameters):
        model = make()
        before, names, marks = state(model), list(model.state_dict()), {id(p) for p in model.parameters()}
        trainable = select(model, parameters, [7, 9], quantize="nf4")
        assert any(isinstance(module, NF4Linear) for module in model.modules())
        trainable.finish()
        assert list(model.state_dict()) == names
        assert {id(p) for p in model.parameters()} == marks
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert not any(isinstance(module, NF4Linear) for module in model.modules())

    def test_gpt2_merges_into_matrices_that_lie_down(self):
        model, plain = gpt2(), gpt2()
        options = LoraOptions(r=4, alpha=8, dropout=0.0)
        trainable, beside = (stirred(m, options, quantize, freeze_old_rows=True) for m, quantize in ((model, "nf4"), (plain, "none")))
        trainable.finish()
        beside.finish()
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(tensor, plain.state_dict()[name], rtol=1e-5, atol=1e-6)

    def test_weights_wait_on_disk_and_not_in_memory(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        model = llama(tied=False)
        quantization = Quantization.of(model, spare=[model.lm_head])
        folder = next(tmp_path.iterdir())
        kept = sum(load_file(path)["weight"].numel() for path in folder.iterdir())
        assert kept == quantization.parameters == LAYERS * LINEAR
        assert sum(p.numel() for p in model.parameters()) == LAYERS * 2 * D + D + 2 * ROWS * D
        assert all(module.weight.numel() == 0 for module, _ in quantization.layers.values())
        quantization.close()
        assert not list(tmp_path.iterdir())

    def test_a_weight_that_two_modules_share_is_left_alone(self):
        model = llama(tied=False)
        model.model.layers[1].self_attn.k_proj.weight = model.model.layers[0].self_attn.k_proj.weight
        quantization = Quantization.of(model, spare=[model.lm_head])
        assert len(quantization.layers) == 7 * LAYERS - 2
        quantization.close()

    def test_an_interrupted_run_leaves_an_ordinary_model(self):
        model = llama(tied=False)
        names = list(model.state_dict())

        def stop(model, step):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(model, tokenizer(), CORPUS, settings(lora_tables=True), on_evaluate=stop)
        assert list(model.state_dict()) == names
        assert all(torch.equal(tensor, llama(tied=False).state_dict()[name]) for name, tensor in model.state_dict().items())

    def test_a_masked_model_too(self):
        run = train(bert(), wordpiece(), CORPUS, settings(objective="mlm"), new_ids=[20])
        assert run.footprint.quantized > 0


class TestTied:
    def test_adapters_on_one_table_are_refused_before_anything_is_done(self):
        model = llama(tied=True)
        before = state(model)
        with pytest.raises(ParameterError, match=r"part them first \(untie=true\)"):
            train(model, tokenizer(), CORPUS, settings(lora_tables=True))
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert tied(model)

    def test_untied_on_request(self):
        model = llama(tied=True)
        expected = logits(model)
        untie(model)
        torch.testing.assert_close(logits(model), expected)
        model = llama(tied=True)
        run = train(model, tokenizer(), CORPUS, settings(lora_tables=True, untie=True))
        assert not tied(model)
        assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)
        assert run.total_parameters - run.trainable_parameters == LAYERS * (LINEAR + 2 * D) + D + 2 * ROWS * D


class TestReport:
    def test_memory_of_what_trains_and_what_does_not(self):
        run = train(llama(tied=False), tokenizer(), CORPUS, settings(lora_tables=True))
        found = run.footprint
        assert found.quantized == LAYERS * LINEAR
        blocks = [(16 * 16, 4), (16 * 32, 3)]  # numbers in a matrix, matrices in a layer
        held = LAYERS * sum(count * (numbers // 2 + numbers // 64 + 4 + 4) for numbers, count in blocks)
        assert found.quantized_bytes == held
        assert found.bits_per_quantized == pytest.approx(8 * held / found.quantized)
        assert found.trained_bytes == 4 * 4 * run.trainable_parameters
        rest = 4 * (LAYERS * 2 * D + D + 2 * ROWS * D)
        assert held + rest <= found.frozen_bytes <= held + rest + 200  # buffers such as rotary frequencies
        assert found.full_bytes == 4 * 4 * (run.total_parameters - run.trainable_parameters)
        assert 0.05 < found.quantization_error < 0.12
        assert 4 < BITS < found.bits_per_quantized
        assert json.loads(json.dumps(run.to_dict()))["footprint"]["quantized"] == found.quantized

    def test_the_curve_ends_beside_quantized_weights_and_merged_says_what_came_of_it(self):
        model, seen = llama(tied=False), []

        def watch(model, step):
            seen.append(float(logits(model).square().sum()))
            return seen[-1]

        run = train(model, tokenizer(), CORPUS, settings(lora_tables=True), on_evaluate=watch)
        assert [point.step for point in run.curve] == [0, 3]
        assert run.merged == pytest.approx(float(logits(model).square().sum()))
        assert run.merged != pytest.approx(run.curve[-1].bits_per_byte, rel=1e-6)
        plain = train(llama(tied=False), tokenizer(), CORPUS, settings(quantize="none"), on_evaluate=watch)
        assert plain.merged is None


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    training = settings(steps=6, lora_tables=True, checkpoint_every=0, evaluate_every=2, lora_dropout=0.3, replay=0.25)

    def killed(model, step):
        if step == 4:
            raise KeyboardInterrupt
        return float(step)

    whole, again = llama(tied=False), llama(tied=False)
    more = {"replay_texts": texts(50, seed=5)}
    train(whole, tokenizer(), CORPUS, training, on_evaluate=lambda model, step: float(step), **more)
    with pytest.raises(KeyboardInterrupt):
        train(llama(tied=False), tokenizer(), CORPUS, training, directory=tmp_path, on_evaluate=killed, **more)
    train(again, tokenizer(), CORPUS, training, directory=tmp_path, on_evaluate=lambda model, step: float(step), **more)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in whole.state_dict().items())


class TestBadInput:
    @pytest.mark.parametrize("parameters", ["2x2", "all"])
    def test_layers_cannot_be_frozen_and_trained(self, parameters):
        with pytest.raises(ParameterError, match=f"parameters='{parameters}' trains: choose parameters='lora'"):
            settings(parameters=parameters)
        with pytest.raises(ParameterError, match="choose parameters='lora'"):
            select(llama(), parameters, [], quantize="nf4")

    def test_adapters_on_the_tables_cannot_leave_old_rows_as_they_are(self):
        message = "freeze_old_rows=True with lora_tables=True: .* choose freeze_old_rows=False"
        with pytest.raises(ParameterError, match=message):
            settings(lora_tables=True, freeze_old_rows=True)
        model = llama(tied=False)
        before = state(model)
        with pytest.raises(ParameterError, match=message):
            select(model, "lora", [7], lora=ALL, freeze_old_rows=True)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
        assert settings(lora_tables=True, parameters="embeddings", freeze_old_rows=True).freeze_old_rows  # has no adapters

    def test_another_format_is_refused(self):
        with pytest.raises(ParameterError, match="quantize='int3'"):
            settings(quantize="int3")

    def test_a_weight_that_is_not_a_number_is_named_and_the_model_left_as_it_was(self):
        model = llama(tied=False)
        model.model.layers[1].mlp.up_proj.weight.data[2, 1] = float("nan")
        before = state(model)
        with pytest.raises(ParameterError, match="holds NaN or infinity"):
            train(model, tokenizer(), CORPUS, settings())
        assert list(model.state_dict()) == list(before)
        assert all(torch.equal(t.nan_to_num(9), before[name].nan_to_num(9)) for name, t in model.state_dict().items())

    def test_a_full_disk_leaves_the_model_as_it_was(self, monkeypatch):
        calls = []

        def full(tensors, path):
            calls.append(path)
            if len(calls) == 3:
                raise OSError(28, "No space left on device")
            from safetensors.torch import save_file

            save_file(tensors, path)

        monkeypatch.setattr("regraft.training.quantized.save_file", full)
        model = llama(tied=False)
        before = state(model)
        with pytest.raises(OutputError, match=r"No space left on device.*TMPDIR"):
            train(model, tokenizer(), CORPUS, settings())
        assert list(model.state_dict()) == list(before)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_bitsandbytes_layer_computes_the_same():
    library = pytest.importorskip("bitsandbytes")
    weight, bias = 0.02 * torch.randn(96, 128), torch.nn.Parameter(torch.randn(96))
    x = torch.randn(3, 128, requires_grad=True)
    theirs, ours = bitsandbytes_layer(library, weight, bias), NF4Linear(weight, bias)
    torch.testing.assert_close(theirs(x), ours(x), rtol=1e-2, atol=1e-3)
    assert isinstance(theirs, torch.nn.Linear)


# On disk


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tied Llama with a tokenizer, and a corpus."""
    root = tmp_path_factory.mktemp("base")
    llama(tied=True).save_pretrained(root / "model")
    tokenizer().save_pretrained(root / "model")
    (root / "corpus.txt").write_text("\n\n".join(f"{text} zorquix flumzor" for text in texts(80, seed=3)), encoding="utf-8")
    return root


def adapt(base, out, *options):
    train_options = ["parameters=lora", "quantize=nf4", "lora_tables=true", "lora_r=4", "block=16", "batch_size=2", *options]
    command = [
        "adapt",
        str(base / "model"),
        "--corpus",
        str(base / "corpus.txt"),
        "--extend",
        "20",
        "--method",
        "zip-tie",
        "--out",
        str(out),
    ]
    command += ["--train", "3", "--json", "--held-out", "0.2", "--score-bytes", "1500"]
    for option in train_options:
        command += ["--train-set", option]
    return CliRunner().invoke(app, command)


def opened(path):
    model, info = AutoModelForCausalLM.from_pretrained(path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    return model.eval()


def test_adapt_writes_an_untied_merged_model(base, tmp_path):
    result = adapt(base, tmp_path / "out", "untie=true", "replay=0.2")
    assert result.exit_code == 0, result.output
    model = opened(tmp_path / "out")
    assert not tied(model)
    assert json.loads((tmp_path / "out/config.json").read_text())["tie_word_embeddings"] is False
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)
    metrics = json.loads(result.stdout)
    assert metrics["training"]["footprint"]["quantized"] == LAYERS * LINEAR
    assert metrics["training"]["merged"] > 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert "What trained" in json.dumps(report)
    assert "held in NF4" in json.dumps(report)
    undone = CliRunner().invoke(app, ["undo", str(tmp_path / "out")])
    assert undone.exit_code == 0
    assert tied(opened(tmp_path / "out"))


def test_adapters_beside_the_model_are_the_merged_model(base, tmp_path):
    from peft import PeftModel

    for name, merge in (("merged", "true"), ("beside", "false")):
        assert adapt(base, tmp_path / name, "untie=true", f"lora_merge={merge}").exit_code == 0
    started, merged = opened(tmp_path / "beside"), opened(tmp_path / "merged")
    assert not tied(started)
    assert torch.equal(started.lm_head.weight, started.model.embed_tokens.weight)
    assert not (tmp_path / "merged/adapter").exists()
    assert not torch.allclose(logits(started), logits(merged), atol=1e-2)
    with_adapters = PeftModel.from_pretrained(started, tmp_path / "beside/adapter").eval()
    torch.testing.assert_close(logits(with_adapters), logits(merged), rtol=1e-4, atol=1e-4)


def test_tables_trained_in_full_are_written_beside_the_adapters(base, tmp_path):
    from peft import PeftModel

    for name, merge in (("merged", "true"), ("beside", "false")):
        assert adapt(base, tmp_path / name, "lora_tables=false", f"lora_merge={merge}").exit_code == 0
    started, merged = opened(tmp_path / "beside"), opened(tmp_path / "merged")
    assert tied(started)
    assert torch.equal(started.lm_head.weight, merged.lm_head.weight)
    with_adapters = PeftModel.from_pretrained(started, tmp_path / "beside/adapter").eval()
    torch.testing.assert_close(logits(with_adapters), logits(merged), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("merge", [True, False])
def test_a_parted_encoder_keeps_its_bias(tmp_path, merge):
    """BERT ties the bias of its head as well: once parted, both are stored."""
    bert().save_pretrained(tmp_path / "model")
    wordpiece().save_pretrained(tmp_path / "model")
    (tmp_path / "corpus.txt").write_text("\n\n".join(f"{text} zorquix flumzor" for text in texts(80, seed=3)), encoding="utf-8")
    training = settings(objective="mlm", lora_tables=True, untie=True, lora_merge=merge)
    done = adapt_model(
        tmp_path / "model", corpus=[tmp_path / "corpus.txt"], out=tmp_path / "out", extend=10, training=training, held_out=0.2, score=False
    )
    model, info = AutoModelForMaskedLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert not tied(model)
    assert torch.equal(model.get_output_embeddings().bias, done.transplant.bias)
    assert torch.equal(model.get_output_embeddings().weight, model.get_input_embeddings().weight) != merge


def test_tied_tables_are_refused_in_one_line_and_nothing_is_left(base, tmp_path):
    result = adapt(base, tmp_path / "out")
    assert result.exit_code == 2
    assert "untie=true" in result.output
    assert not (tmp_path / "out").exists()


def test_a_tensor_cannot_be_added_twice(base, tmp_path):
    from regraft.checkpoint import Checkpoint, write

    checkpoint = Checkpoint.open(base / "model")
    with pytest.raises(CheckpointError, match=r"already stores model\.embed_tokens\.weight"):
        write(checkpoint, tmp_path / "out", tensors={}, added={"model.embed_tokens.weight": torch.zeros(1)})


def test_the_recipe_of_the_paper_is_a_valid_training():
    training = Training(**QLORA, steps=1)
    assert (training.lora_r, training.quantize, training.untie, training.lora_tables) == (128, "nf4", True, True)


def test_the_example_runs_with_the_page_of_english_that_is_there_by_default(base, tmp_path):
    """Everything as it stands but for what to adapt, how long, and where to."""
    recipe = yaml.safe_load(Path(__file__).parents[2].joinpath("examples/zip-tie-qlora.yaml").read_text("utf-8"))
    assert {**QLORA, **recipe["train_set"], "lora_r": 128, "lora_alpha": 128}.items() >= QLORA.items()
    recipe |= {
        "model": str(base / "model"),
        "corpus": str(base / "corpus.txt"),
        "out": str(tmp_path / "out"),
        "train": "2",
        "extend": 20,
        "score_bytes": 1500,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    result = CliRunner().invoke(app, ["run", str(tmp_path / "recipe.yaml"), "--json"])
    assert result.exit_code == 0, result.output
    [group] = json.loads(result.stdout)["training"]["groups"]
    assert group["name"] == "LoRA adapters"
    trained = json.loads((tmp_path / "out/regraft.json").read_text("utf-8"))["method"]["parameters"]["training"]
    assert (trained["freeze_old_rows"], trained["replay"], trained["block"]) == (False, 0.1, 128)
