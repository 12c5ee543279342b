"""Another width: maps on the axes of real architectures, in miniature."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers as hf
from typer.testing import CliRunner

from regraft.checkpoint import Checkpoint
from regraft.cli import app
from regraft.corpus import Corpus
from regraft.errors import CheckpointError, ParameterError
from regraft.grow.grower import Context
from regraft.grow.width.axes import Axes, Size
from regraft.grow.width.difference import difference, outputs
from regraft.grow.width.growers.ligo import expanded, learnable
from regraft.grow.width.growers.subclone import importance
from regraft.grow.width.maps import pieces
from regraft.grow.width.widening import origins, widened
from regraft.method import list_methods, resolve
from toys import models as toys

SHAPE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
GQA = {"vocab_size": toys.ROWS, **SHAPE, "num_key_value_heads": 2, "initializer_range": 0.3, "pad_token_id": 2}
WORDS = {"vocab_size": 120, "max_position_embeddings": 64}
BUILT = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**GQA, tie_word_embeddings=True)),
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**GQA, tie_word_embeddings=False)),
    "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**GQA)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**GQA, head_dim=8)),
    "phi3": lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**GQA, bos_token_id=0, eos_token_id=1)),
    "gpt2": toys.gpt2,
    "bert": toys.bert,
    "roberta": lambda: hf.RobertaForMaskedLM(hf.RobertaConfig(**WORDS, **SHAPE)),
    "distilbert": lambda: hf.DistilBertForMaskedLM(hf.DistilBertConfig(**WORDS, dim=16, hidden_dim=24, n_layers=2, n_heads=4)),
    "encoder": lambda: hf.BertModel(hf.BertConfig(**WORDS, **SHAPE)),
    "vit": lambda: hf.ViTForImageClassification(hf.ViTConfig(**SHAPE, image_size=16, patch_size=8, num_labels=3)),
}
RMS = ("llama", "mistral", "qwen2", "qwen3", "phi3")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    root = tmp_path_factory.mktemp("widths")
    for name, make in BUILT.items():
        torch.manual_seed(0)
        model = make()
        with torch.no_grad():
            for parameter in model.parameters():  # norms and biases that are not what they start with
                if parameter.ndim == 1:
                    parameter.add_(0.3 * torch.randn_like(parameter))
        model.save_pretrained(root / name)
        if name not in ("vit",):
            (toys.tokenizer() if name in (*RMS, "gpt2") else toys.wordpiece()).save_pretrained(root / name)
    return {name: Checkpoint.open(root / name) for name in BUILT}


@pytest.fixture
def context():
    return Context(corpus=Corpus.from_texts(toys.texts(120)), steps=3)


def grown(checkpoint, out, context, method="net2net", hidden=32, **settings):
    return resolve("width-grower", method, settings).grow(checkpoint, hidden, out, context)


@pytest.mark.parametrize("name", BUILT)
def test_a_multiple_of_the_width_keeps_the_function(name, checkpoints, tmp_path, context):
    found = grown(checkpoints[name], tmp_path / "out", context)
    assert found.facts["exact"]
    assert found.facts["relative_difference"] < 3e-6
    model = hf.AutoConfig.from_pretrained(tmp_path / "out")
    assert model.hidden_size == 32
    assert found.facts["ffn"] == 2 * Axes.open(checkpoints[name]).width.ffn


@pytest.mark.parametrize("name", RMS)
def test_silent_units_keep_the_function_where_the_width_is_no_multiple(name, checkpoints, tmp_path, context):
    found = grown(checkpoints[name], tmp_path / "out", context, hidden=24)
    assert found.facts["exact"]
    assert found.facts["relative_difference"] < 3e-6
    assert found.facts["groups"] == 3
    copies = grown(checkpoints[name], tmp_path / "copies", context, hidden=24, uneven="copies")
    assert not copies.facts["exact"]
    assert copies.facts["relative_difference"] > 1e-3


@pytest.mark.parametrize("name", ["gpt2", "bert", "vit"])
def test_layer_norm_sees_uneven_copies_and_it_is_said(name, checkpoints, tmp_path, context):
    found = grown(checkpoints[name], tmp_path / "out", context, hidden=24)
    assert not found.facts["exact"]
    assert found.facts["relative_difference"] > 1e-3
    assert "LayerNorm sees" in context.notes[0]


@pytest.mark.parametrize(("method", "settings"), [("net2net", {"split": "random"}), ("bert2bert", {})])
def test_other_ways_to_keep_the_function(method, settings, checkpoints, tmp_path, context):
    for name in ("llama", "bert"):
        found = grown(checkpoints[name], tmp_path / name, context, method, **settings)
        assert found.facts["relative_difference"] < 3e-6


def test_more_neurons_alone_at_any_number(checkpoints, tmp_path, context):
    for name in ("gpt2", "llama"):
        found = resolve("width-grower", "net2net", {}).grow(checkpoints[name], Size(16, 67), tmp_path / name, context)
        assert found.facts["relative_difference"] < 3e-6
        assert found.facts["ffn"] == 67


def test_what_reads_copies_shares_the_weight(checkpoints):
    axes = Axes.open(checkpoints["llama"])
    plan = widened(axes, axes.width.at(32), random=np.random.default_rng(0), split="random")
    for axis in ("hidden", "ffn", "heads", "groups"):
        maps = plan.on(axis, 1)
        product = (maps.read.weights.T @ maps.write.weights).toarray()
        assert np.allclose(product, np.eye(axes.width.size(axis)))
    groups, heads = origins(plan.on("groups", 0)), origins(plan.on("heads", 0))
    for head, group in enumerate(groups[::4]):  # heads of 4 numbers, two a group
        assert heads[head * 8 : head * 8 + 8].tolist() == list(range(group * 2, group * 2 + 8))


def test_noise_breaks_symmetry_and_exactness(checkpoints, tmp_path, context):
    found = grown(checkpoints["llama"], tmp_path / "out", context, noise=0.01)
    assert not found.facts["exact"]
    assert found.facts["relative_difference"] > 1e-4
    weight = Checkpoint.open(tmp_path / "out").read("model.layers.0.self_attn.q_proj.weight")
    assert not torch.equal(weight[:, :16], weight[:, 16:])


def test_new_units_of_the_next_layer(checkpoints, tmp_path, context):
    source = checkpoints["bert"]
    found = grown(source, tmp_path / "out", context, "bert2bert", initialization="aki")
    assert not found.facts["exact"]
    made = Checkpoint.open(tmp_path / "out")
    name = "bert.encoder.layer.{}.attention.output.dense.bias"
    own, following = source.read(name.format(0)), source.read(name.format(1))
    assert torch.equal(made.read(name.format(0)), torch.cat([own, following]))
    assert torch.equal(made.read(name.format(4)), source.read(name.format(4)).repeat(2))


def test_subclone_keeps_what_is_active_and_reads_it_louder(checkpoints, tmp_path, context):
    source = checkpoints["gpt2"]
    axes = Axes.open(source)
    ranks = importance(axes, context, 500, 32)
    found = grown(source, tmp_path / "out", context, "subclone", hidden=8, tokens=500, length=32)
    made = Checkpoint.open(tmp_path / "out")
    kept = np.sort(np.argsort(-ranks["hidden"][0])[:8])
    assert torch.equal(made.read("transformer.wpe.weight"), source.read("transformer.wpe.weight")[:, kept])
    neurons = np.sort(np.argsort(-ranks["ffn"][1])[:32])
    old = source.read("transformer.h.1.mlp.c_proj.weight")[neurons][:, kept]
    assert torch.allclose(made.read("transformer.h.1.mlp.c_proj.weight"), old * 2**0.5)
    assert found.facts["heads"] == 1


def test_importance_is_the_mean_magnitude_of_what_is_read(checkpoints):
    source = checkpoints["llama"]
    few = Context(corpus=Corpus.from_texts(toys.texts(5, 9), held_out=0))
    model, tokenizer = few.live(source)
    seen = {"ffn": [], "heads": [], "hidden": []}
    layer = model.model.layers[1]
    for axis, module in (("ffn", layer.mlp.down_proj), ("heads", layer.self_attn.o_proj)):
        module.register_forward_pre_hook(lambda _, inputs, axis=axis: seen[axis].append(inputs[0][0]))
    for each in model.model.layers:
        each.register_forward_pre_hook(lambda _, inputs: seen["hidden"].append(inputs[0][0]))
    with torch.no_grad():
        for text in few.texts("test"):
            model(torch.tensor([tokenizer(text)["input_ids"]]))
    ranks = importance(Axes.open(source), few, 10_000, 500)
    for axis in ("ffn", "heads"):
        assert np.allclose(ranks[axis][1], torch.cat(seen[axis]).abs().mean(0), rtol=1e-4)
    assert np.allclose(ranks["hidden"][0], torch.cat(seen["hidden"]).abs().mean(0), rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert"])
def test_ligo_starts_where_the_function_stays_and_learns(name, checkpoints, tmp_path, context):
    source = checkpoints[name]
    axes = Axes.open(source)
    start = widened(axes, axes.width.at(32), random=np.random.default_rng(0))
    model = expanded(axes, start, learnable(start, axes, 3))
    ids = torch.randint(100, (2, 10), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, context.live(source)[0](ids).logits, atol=2e-5)
    assert {p for p in model.parameters() if p.requires_grad}
    found = grown(source, tmp_path / "out", Context(corpus=context.corpus, steps=12), "ligo", lr=0.02, block=32, batch_size=4)
    assert found.facts["ligo_bits_per_byte"][1] < found.facts["ligo_bits_per_byte"][0] - 0.05
    assert found.facts["relative_difference"] > 1e-3


def test_ligo_writes_what_it_trained(checkpoints, tmp_path):
    axes = Axes.open(checkpoints["llama"])
    start = widened(axes, axes.width.at(24), random=np.random.default_rng(0))
    learned = learnable(start, axes, None)
    model = expanded(axes, start, learned)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.05)
    maps = {axis: one.maps() if axis == "hidden" else [each.maps() for each in one] for axis, one in learned.items()}
    plan = type(start)(**vars(start) | {"maps": maps})
    for name, piece in pieces(axes, plan).items():
        module, _, attribute = axes.called[name].rpartition(".")
        live = getattr(model.get_submodule(module), attribute)
        assert torch.allclose(torch.cat(list(piece.blocks())), live, atol=1e-5)


def test_mixturegrowth_of_one_model_twice_and_of_two(checkpoints, tmp_path, context):
    for name in ("llama", "bert", "mistral"):
        twice = grown(checkpoints[name], tmp_path / name, context, "mixturegrowth", noise=0)
        assert twice.facts["exact"]
        assert twice.facts["relative_difference"] < 3e-6
    noisy = grown(checkpoints["llama"], tmp_path / "noisy", context, "mixturegrowth")
    assert not noisy.facts["exact"]
    assert 1e-6 < noisy.facts["relative_difference"] < 0.2
    other = checkpoints["llama"].path
    two = grown(checkpoints["llama"], tmp_path / "two", context, "mixturegrowth", second=str(other), rule="random")
    weight = Checkpoint.open(tmp_path / "two").read("model.layers.0.mlp.up_proj.weight")
    old = checkpoints["llama"].read("model.layers.0.mlp.up_proj.weight")
    alpha = two.facts["coefficients"]
    assert torch.allclose(weight[:24, 16:], alpha[2] * old)
    assert torch.allclose(weight[24:, :16], alpha[3] * old)
    assert torch.equal(weight[:24, :16], old)


def test_the_sum_of_logits_is_the_paper_s(checkpoints, tmp_path, context):
    source = checkpoints["mistral"]
    grown(source, tmp_path / "out", context, "mixturegrowth", noise=0, logits="sum")
    assert torch.allclose(outputs(Checkpoint.open(tmp_path / "out"), context), 2 * outputs(source, context), atol=1e-3)


@pytest.mark.parametrize(
    ("method", "name", "hidden", "said"),
    [
        ("net2net", "llama", 20, r"in 2 groups at 16\).*multiple of 8: choose 24"),
        ("net2net", "gpt2", 8, "only widens.*choose subclone"),
        ("subclone", "gpt2", 32, "only leaves out.*choose net2net"),
        ("mixturegrowth", "gpt2", 24, "make one of 32"),
        ("net2net", "bert", -3, "multiple of 8: choose 8"),
        ("ligo", "encoder", 32, "no language-model head"),
    ],
)
def test_a_width_that_cannot_be_had(method, name, hidden, said, checkpoints, tmp_path, context):
    with pytest.raises(ParameterError, match=said):
        grown(checkpoints[name], tmp_path / "out", context, method, hidden)
    assert not (tmp_path / "out").exists()


def test_architectures_that_are_not_known_are_named(tmp_path, context, checkpoints):
    hf.OPTForCausalLM(
        hf.OPTConfig(vocab_size=90, hidden_size=8, ffn_dim=8, num_hidden_layers=1, num_attention_heads=2, word_embed_proj_dim=8)
    ).save_pretrained(tmp_path / "opt")
    with pytest.raises(CheckpointError, match="not known for 'opt': width is known for llama, "):
        grown(Checkpoint.open(tmp_path / "opt"), tmp_path / "out", context)
    with pytest.raises(CheckpointError, match="a model of the same shape"):
        grown(checkpoints["llama"], tmp_path / "out", context, "mixturegrowth", second=str(checkpoints["gpt2"].path))


def test_poolings_follow(checkpoints, tmp_path, context):
    shutil.copytree(checkpoints["encoder"].path, tmp_path / "st")
    (tmp_path / "st" / "1_Pooling").mkdir()
    (tmp_path / "st" / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 16, "pooling_mode_mean_tokens": true}')
    grown(Checkpoint.open(tmp_path / "st"), tmp_path / "out", context)
    pooling = json.loads((tmp_path / "out" / "1_Pooling" / "config.json").read_text())
    assert pooling == {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}


def test_every_width_grower_is_listed():
    assert [cls.name for cls in list_methods("width-grower")] == ["bert2bert", "ligo", "mixturegrowth", "net2net", "subclone"]


def test_the_verbs(checkpoints, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("\n\n".join(toys.texts(120)), encoding="utf-8")
    model = str(checkpoints["llama"].path)
    call = ["grow", "width", model, "--hidden", "32", "--corpus", str(texts), "--out", str(tmp_path / "out"), "--json"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["grown"]["bits_per_byte"] == pytest.approx(found["untouched"]["bits_per_byte"], abs=1e-4)
    assert json.loads((tmp_path / "out" / "regraft.json").read_text())["metrics"]["exact"] is True
    hf.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    call = ["grow", "compare", model, "--hidden", "32", "--methods", "net2net,subclone,mixturegrowth", "--corpus", str(texts), "--json"]
    done = CliRunner().invoke(app, call)
    rows = {row["method"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["net2net"]["bits_per_byte"] == pytest.approx(rows["untouched"]["bits_per_byte"], abs=1e-4)
    assert "only leaves out" in rows["subclone"]["error"]
    both = CliRunner().invoke(app, ["grow", "compare", model, "--hidden", "32", "--layers", "3", "--corpus", str(texts)])
    assert both.exit_code == 2


def test_a_difference_is_found(checkpoints, context):
    axes = Axes.open(checkpoints["gpt2"])
    plan = widened(axes, axes.width.at(16), random=np.random.default_rng(0))
    assert difference(checkpoints["gpt2"], checkpoints["gpt2"], plan, context).largest == 0
    assert difference(checkpoints["llama"], checkpoints["mistral"], plan, context).relative > 0.1
