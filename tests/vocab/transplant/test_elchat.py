"""ElChat: what lies between the trained model and the source, what is the source's again, and what stays as trained."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from typer.testing import CliRunner

from regraft.cli import app
from regraft.errors import ParameterError
from regraft.method import configure
from regraft.training import Training
from regraft.vocab.adapt import adapt
from regraft.vocab.transplant import elchat
from regraft.vocab.transplant.elchat import ElChat, check_start, depth, mix
from toys.models import bert, gpt2, llama, texts, tokenizer, wordpiece

SOURCE = ElChat(outer=1, inner=1, rows=1)
TRAINED = ElChat(outer=0, inner=0, rows=0, special=False)
SPECIAL = {"llama": 2, "untied": 2, "gpt2": 2, "bert": 5}  # they come first in these tokenizers


def rate(value):
    return torch.full((1, 1), value)


def settings(**changes):
    return Training(**{"steps": 3, "block": 16, "batch_size": 2, "lr": 0.05, "parameters": "all", **changes})


# Two vectors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("method", ["slerp", "linear"])
def test_rates_of_0_and_1_are_the_two_ends_bit_for_bit(method, dtype):
    trained, source = torch.randn(2, 3, 5, dtype=dtype)
    trained[0, 0], source[0, 1] = -0.0, -0.0
    rates = torch.tensor([[0.0], [1.0], [0.0]])
    mixed = mix(trained, source, rates, method)
    kinds = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float64: torch.int64}
    wanted = torch.stack([trained[0], source[1], trained[2]])
    assert torch.equal(mixed.view(kinds[dtype]), wanted.view(kinds[dtype]))


def test_parallel_and_zero_vectors_go_straight():
    vector = torch.randn(1, 6)
    for other in (3 * vector, -2 * vector, torch.zeros(1, 6), vector + 1e-3 * torch.randn(1, 6)):
        assert torch.equal(mix(vector, other, rate(0.3), "slerp"), mix(vector, other, rate(0.3), "linear"))
        torch.testing.assert_close(mix(vector, other, rate(0.3), "slerp"), 0.7 * vector + 0.3 * other)


@pytest.mark.parametrize("t", [0.1, 0.3, 0.5, 0.9])
def test_orthogonal_unit_vectors_turn_by_a_share_of_a_right_angle(t):
    a, b = torch.eye(4)[:1], torch.eye(4)[2:3]
    wanted = math.cos(t * math.pi / 2) * a + math.sin(t * math.pi / 2) * b
    torch.testing.assert_close(mix(a, b, rate(t), "slerp"), wanted)
    torch.testing.assert_close(mix(a, 5 * b, rate(t), "slerp"), wanted * torch.tensor([1.0, 1, 5, 1]))  # lengths ride along


def test_each_vector_has_a_path_of_its_own():
    trained, source, rates = torch.randn(4, 3), torch.randn(4, 3), torch.rand(4, 1)
    alone = [mix(trained[i : i + 1], source[i : i + 1], rates[i : i + 1], "slerp") for i in range(4)]
    torch.testing.assert_close(mix(trained, source, rates, "slerp"), torch.cat(alone))


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("model.layers.0.mlp.up_proj.weight", 0),
        ("model.layers.3.mlp.experts.1.weight", 3),
        ("model.layers.8.mlp.up_proj.weight", 1),
        ("model.layers.9.input_layernorm.weight", 0),
        ("decoder.block.1.layer.0.weight", 0),
        ("model.norm.weight", None),
        ("cls.predictions.transform.dense.bias", None),
    ],
)
def test_depth_counts_from_the_nearer_end_of_the_outermost_stack(name, layers):
    stacks = {"model.layers": 10, "model.layers.3.mlp.experts": 2, "decoder.block": 2, "decoder.block.1.layer": 3}
    assert depth(name, stacks) == layers


# Whole models


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Source models by name with their tokenizers, and a corpus."""
    root = tmp_path_factory.mktemp("base")
    for name, model in (("llama", llama()), ("untied", llama(tied=False)), ("gpt2", gpt2()), ("bert", bert())):
        model.save_pretrained(root / name)
        (wordpiece() if name == "bert" else tokenizer()).save_pretrained(root / name)
    (root / "corpus.txt").write_text("\n\n".join(f"{text} zorquix flumzor" for text in texts(80, seed=3)), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def written(base, tmp_path_factory):
    """Tensors on disk, and what `adapt` returned, of a run with such options; each is made once."""
    known = {}

    def made(name, how, **options):
        key = (name, how, *options.items())
        if key not in known:
            out = tmp_path_factory.mktemp("out") / "model"
            training = settings(objective="mlm" if name == "bert" else "clm", **options)
            done = adapt(
                base / name, corpus=[base / "corpus.txt"], out=out, extend=10, held_out=0.2, training=training, elchat=how, score=False
            )
            known[key] = load_file(out / "model.safetensors"), done
        return known[key]

    return made


def is_table(name, tensor, rows):
    return tensor.ndim > 0 and tensor.shape[0] == rows and not name.startswith("transformer.wpe")


@pytest.mark.parametrize("name", ["llama", "untied", "gpt2", "bert"])
def test_at_rate_0_all_is_as_trained_and_at_rate_1_all_but_new_rows_is_the_source(base, written, name):
    source = load_file(base / name / "model.safetensors")
    (plain, done), (same, _), (back, repaired) = written(name, None), written(name, TRAINED), written(name, SOURCE)
    new = torch.from_numpy(done.transplant.new_ids)
    assert plain.keys() == same.keys() == back.keys() == source.keys()
    changed = 0
    for tensor, before in source.items():
        assert torch.equal(plain[tensor], same[tensor])
        if is_table(tensor, plain[tensor], done.transplant.rows):
            owned = torch.from_numpy(np.flatnonzero(done.transplant.origins == 0))
            assert torch.equal(back[tensor][owned], before[owned])
            assert torch.equal(back[tensor][new], plain[tensor][new])
            assert not torch.equal(plain[tensor][new], done.transplant.tensors[tensor][new]), "new rows have trained"
        else:
            assert torch.equal(back[tensor], before)
            changed += plain[tensor].numel() * (not torch.equal(plain[tensor], before))
    assert repaired.metrics["elchat"]["weights"] == changed > 0
    assert repaired.metrics["elchat"]["special_rows"] == SPECIAL[name] * (2 if name == "untied" else 1)
    assert done.metrics["elchat"] is None


@pytest.mark.parametrize("name", ["llama", "untied", "gpt2", "bert"])
@pytest.mark.parametrize("method", ["slerp", "linear"])
def test_by_default_outer_layers_and_old_rows_keep_more_than_inner_layers_and_special_rows_return(base, written, name, method, monkeypatch):
    monkeypatch.setattr(elchat, "BLOCK", 7)
    source = load_file(base / name / "model.safetensors")
    (plain, done), (mixed, _) = written(name, None), written(name, ElChat(method=method))
    count = llama().config.num_hidden_layers if name != "gpt2" else 2
    for tensor, before in source.items():
        trained = plain[tensor]
        if is_table(tensor, trained, done.transplant.rows):
            assert torch.equal(mixed[tensor][: SPECIAL[name]], before[: SPECIAL[name]])
            assert not torch.equal(trained[: SPECIAL[name]], before[: SPECIAL[name]])
            old = torch.from_numpy(np.flatnonzero(done.transplant.origins == 0)[SPECIAL[name] :])
            torch.testing.assert_close(mixed[tensor][old], rows_between(trained[old], before[old], 0.3, method))
            assert torch.equal(mixed[tensor][old[-1] + 1 :], trained[old[-1] + 1 :])
            continue
        number = next((int(part) for part in tensor.split(".") if part.isdigit()), 0)
        torch.testing.assert_close(mixed[tensor], between(trained, before, 0.3 if number in (0, count - 1) else 0.5, method))


def between(trained, source, t, method):
    """The paper's formula in double precision, on whole tensors."""
    a, b = trained.double(), source.double()
    angle = torch.arccos(((a * b).sum() / (a.norm() * b.norm())).clamp(-1, 1))
    if method == "linear" or not math.cos(angle) <= 0.9995:
        return ((1 - t) * a + t * b).float()
    return ((torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)).float()


def rows_between(trained, source, t, method):
    """The same row by row; entries of a bias have no direction."""
    return torch.stack([between(a, b, t, method if a.ndim else "linear") for a, b in zip(trained, source, strict=True)])


@pytest.mark.parametrize("name", ["untied", "bert"])
def test_without_special_and_rows_the_tables_stay_or_are_mixed_alike(base, written, name):
    source = load_file(base / name / "model.safetensors")
    (plain, done), (layers, alone), (mixed, both) = (
        written(name, how) for how in (None, ElChat(rows=0, special=False), ElChat(rows=0.5, special=False))
    )
    old = torch.from_numpy(np.flatnonzero(done.transplant.origins == 0))
    tables = [tensor for tensor, before in source.items() if is_table(tensor, plain[tensor], done.transplant.rows)]
    assert len(tables) >= 2
    for tensor in tables:
        assert torch.equal(layers[tensor], plain[tensor])
        torch.testing.assert_close(mixed[tensor][old], rows_between(plain[tensor][old], source[tensor][old], 0.5, "slerp"))
    assert (alone.metrics["elchat"]["rows"], alone.metrics["elchat"]["special_rows"]) == (0, 0)
    assert both.metrics["elchat"] == {
        "weights": alone.metrics["elchat"]["weights"],
        "rows": both.metrics["elchat"]["rows"],
        "special_rows": 0,
    }
    assert len(old) <= both.metrics["elchat"]["rows"] <= 2 * len(old)


def test_a_head_that_was_parted_has_the_input_table_for_its_source(base, written):
    source = load_file(base / "llama" / "model.safetensors")["model.embed_tokens.weight"]
    mixed, _ = written("llama", ElChat(rows=0), untie=True)
    trained, done = written("llama", None, untie=True)
    for table in ("model.embed_tokens.weight", "lm_head.weight"):
        assert torch.equal(mixed[table][:2], source[:2])
        assert torch.equal(mixed[table][2:], trained[table][2:])
    assert len(mixed["lm_head.weight"]) == done.transplant.rows


def test_merged_adapters_are_mixed_like_other_weights(base, written):
    source = load_file(base / "llama" / "model.safetensors")
    (plain, _), (mixed, done) = written("llama", None, parameters="lora"), written("llama", ElChat(), parameters="lora")
    for layer, t in ((0, 0.3), (1, 0.5), (2, 0.5), (4, 0.3)):
        tensor = f"model.layers.{layer}.mlp.up_proj.weight"
        torch.testing.assert_close(mixed[tensor], between(plain[tensor], source[tensor], t, "slerp"))
    assert done.metrics["elchat"]["weights"] > 0


def test_special_rows_return_to_where_another_tokenizer_has_them(base, tmp_path):
    backend = Backend(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=280, special_tokens=["<bos>", "<eos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(["zorquix flumzor"] * 9 + texts(50), trainer)
    PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>").save_pretrained(tmp_path / "other")
    done = adapt(
        base / "llama", corpus=[base / "corpus.txt"], out=tmp_path / "out", replace=tmp_path / "other", training=settings(), elchat=SOURCE,
        score=False,
    )  # fmt: skip
    source = load_file(base / "llama" / "model.safetensors")["model.embed_tokens.weight"]
    table = load_file(tmp_path / "out" / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(table[:2], source[[1, 0]])
    assert done.metrics["elchat"]["special_rows"] == 2
    copied = np.flatnonzero(done.transplant.origins == 0)
    assert 2 < len(copied) < len(table)
    assert done.metrics["elchat"]["rows"] == len(copied) - 2


@pytest.mark.slow
def test_a_real_chat_model(smollm2, notes, tmp_path):
    done = adapt(
        smollm2, corpus=[notes], out=tmp_path / "out", extend=20, training=settings(parameters="2x2", lr=1e-3), elchat=ElChat(),
        score_bytes=300, source_text=[notes],
    )  # fmt: skip
    assert [stage.name for stage in done.stages] == ["untouched", "grafted", "trained", "mixed"]
    assert done.metrics["elchat"]["special_rows"] == 17
    with (
        safe_open(smollm2 / "model.safetensors", "pt") as source,
        safe_open(tmp_path / "out" / "model.safetensors", "pt") as mixed,
    ):
        table, before = (file.get_tensor("model.embed_tokens.weight") for file in (mixed, source))
        special = AutoTokenizer.from_pretrained(smollm2).convert_tokens_to_ids(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
        assert torch.equal(table[special], before[special])
        assert not torch.equal(table[17:49152], before[17:49152])
        for layer, same in ((0, False), (1, False), (2, True), (27, True), (28, False), (29, False)):
            name = f"model.layers.{layer}.mlp.up_proj.weight"
            assert torch.equal(mixed.get_tensor(name), source.get_tensor(name)) == same


# What is refused


@pytest.mark.parametrize(
    ("training", "says"),
    [
        (None, "without --train.*nothing to repair"),
        (settings(parameters="lora", lora_merge=False), "lora_merge=true"),
        (settings(parameters="lora", quantize="nf4"), "quantize=none"),
        (settings(parameters="rows"), "parameters=2x2"),
        (settings(parameters="embeddings", freeze_old_rows=True), "only new rows train"),
    ],
)
def test_trainings_that_leave_nothing_to_mix(base, tmp_path, training, says):
    with pytest.raises(ParameterError, match=says):
        adapt(base / "llama", corpus=[base / "corpus.txt"], out=tmp_path / "out", extend=5, training=training, elchat=ElChat())
    assert not (tmp_path / "out").exists()


def test_tables_that_cannot_hold_the_rows_of_the_source(base, written, tmp_path):
    _, done = written("llama", None)
    with pytest.raises(ParameterError, match="factorised"):
        check_start(settings(), dataclasses.replace(done.transplant, primitives=torch.eye(2)))
    with pytest.raises(ParameterError, match="tie=false"):
        adapt(
            base / "untied", corpus=[base / "corpus.txt"], out=tmp_path / "out", extend=5, method="zip-tie", settings={"tie": "average"},
            training=settings(), elchat=ElChat(),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("outer", 1.5, "less than or equal to 1"),
        ("inner", -0.1, "greater than or equal to 0"),
        ("rows", "half", "number"),
        ("method", "cubic", "'slerp' or 'linear'"),
        ("ratio", 0.5, "no parameter 'ratio': it accepts method, outer, inner, rows, special"),
    ],
)
def test_parameters_are_checked(field, value, says):
    with pytest.raises(ParameterError, match=says):
        configure(ElChat, {field: value})


# The command


def command(base, out, *options):
    fixed = [
        "--corpus",
        str(base / "corpus.txt"),
        "--extend",
        "10",
        "--out",
        str(out),
        "--json",
        "--held-out",
        "0.2",
        "--score-bytes",
        "2000",
    ]
    return CliRunner().invoke(app, ["adapt", str(base / "llama"), *fixed, *options])


def test_the_report_has_a_stage_of_its_own(base, tmp_path):
    training = ["--train", "20", "--train-set", "block=16", "--train-set", "lr=0.02", "--train-set", "freeze_old_rows=false"]
    result = command(base, tmp_path / "out", *training, "--elchat", "--elchat-set", "inner=0.6", "--elchat-set", "rows=0.6")
    assert result.exit_code == 0, result.output
    metrics = json.loads(result.stdout)
    stages = {stage["stage"]: stage for stage in metrics["stages"]}
    assert list(stages) == ["untouched", "grafted", "trained", "mixed"]
    assert metrics["elchat"]["special_rows"] == 2
    assert stages["mixed"]["domain"]["bits_per_byte"] != stages["trained"]["domain"]["bits_per_byte"]
    assert stages["mixed"]["ordinary"]["bits_per_byte"] != stages["trained"]["ordinary"]["bits_per_byte"]
    assert "What ElChat mixed with the source" in (tmp_path / "out/report.json").read_text()
    record = json.loads((tmp_path / "out/regraft.json").read_text())
    assert record["method"]["parameters"]["elchat"] == {"method": "slerp", "outer": 0.3, "inner": 0.6, "rows": 0.6, "special": True}
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")


def test_a_recipe_can_ask_for_it(base, tmp_path):
    recipe = {
        "verb": "adapt", "model": str(base / "llama"), "corpus": str(base / "corpus.txt"), "extend": 10, "out": str(tmp_path / "out"),
        "train": 2, "train_set": {"block": 16}, "elchat": True, "elchat_set": {"method": "linear", "outer": 0}, "score": False,
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    result = CliRunner().invoke(app, ["run", str(tmp_path / "recipe.yaml"), "--json"])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out/regraft.json").read_text())
    assert record["method"]["parameters"]["elchat"] == {"method": "linear", "outer": 0, "inner": 0.5, "rows": 0.3, "special": True}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--elchat"], "add --train 2min"),
        (["--elchat", "--dry-run"], "add --train 2min"),
        (["--train", "2", "--elchat-set", "outer=0"], "add --elchat"),
        (["--train", "2", "--elchat", "--elchat-set", "outer=2"], "outer=2 is not accepted"),
    ],
)
def test_mistakes_are_one_line(base, tmp_path, options, says):
    result = command(base, tmp_path / "out", *options)
    assert result.exit_code == 2
    assert says in result.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
