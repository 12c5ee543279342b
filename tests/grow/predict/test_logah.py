"""LoGAH's closed forms, invariants and traps; graphs of real architectures; the whole way through the command line."""

import json

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from regraft.cli import app
from regraft.errors import CheckpointError, InputError, ParameterError
from regraft.grow.predict.data import of_images, read_examples
from regraft.grow.predict.graph import rows
from regraft.grow.predict.hypernetwork.decoder import Dense, LowRank
from regraft.grow.predict.hypernetwork.features import channels, snap
from regraft.grow.predict.hypernetwork.file import load, save
from regraft.grow.predict.hypernetwork.fitting import rounded
from regraft.grow.predict.hypernetwork.network import Hypernet
from regraft.grow.predict.hypernetwork.normalise import normalised
from regraft.grow.predict.predict import Options, Prediction
from regraft.grow.predict.space import GPTS_1K, VITS_1K, VITS_DIGITS
from regraft.grow.predict.targets import Target, config_of
from regraft.grow.predict.training import MetaTraining, Targets, logits_of, train
from regraft.method import resolve

SMALL = {"d": 32, "L": 2, "H": 4, "r": 4, "K": 256, "classes": [10]}
VIT = {
    "model_type": "vit", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32, "image_size": 8,
    "patch_size": 2, "num_channels": 1, "num_labels": 10,
}  # fmt: skip
GPT = {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 4, "vocab_size": 300, "n_positions": 32}
LLAMA = {
    "model_type": "llama", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 32, "vocab_size": 50, "tie_word_embeddings": True,
}  # fmt: skip


def network(method="logah", seed=0, **settings):
    torch.manual_seed(seed)
    return Hypernet(resolve("weight-predictor", method, {**({} if method == "ghn3" else SMALL), **settings}))


@pytest.fixture(scope="module")
def vit():
    return Target(config_of(VIT))


@pytest.fixture(scope="module")
def gpt():
    return Target(config_of(GPT))


@pytest.fixture(scope="module")
def llama():
    return Target(config_of(LLAMA))


@pytest.fixture(scope="module")
def hypernet_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("hypernet") / "hypernet.safetensors"
    save(network(), path, {"space": VITS_DIGITS.model_dump()})
    return path


def count(module):
    return sum(one.numel() for one in module.parameters())


@pytest.mark.parametrize(("d", "r", "K"), [(32, 16, 640), (64, 32, 32768), (8, 3, 50)])
def test_parameters_of_the_decoder(d, r, K):
    assert count(LowRank(d, r, K)) == 4 * d * d + 32 * d * d + 16 * d * r * r + r * K + (12 * d + 2 * r * r + K)


def test_size_t_has_about_two_and_a_half_million_parameters():
    assert count(Hypernet(resolve("weight-predictor", "logah"))) == pytest.approx(2.5e6, rel=0.03)


@pytest.mark.parametrize("layout", ["view", "transpose"])
@pytest.mark.parametrize("shape", [(5, 7, 1, 1), (3, 4, 3, 2), (60, 50, 1, 1), (1, 6, 4, 4)])
def test_entries_are_the_product_of_whole_factors(layout, shape):
    """Only the rows that are needed are computed; they equal those of the whole K x r factors, in the layout's own reading of memory."""
    out, into, height, width = shape
    decoder, h = LowRank(16, 4, 64, layout=layout), torch.randn(2, 16)
    z = torch.relu(decoder.inner(h)).view(2, 8, 4)
    y = decoder.outer(z)  # (n, 2r, K)
    both = y.reshape(2, 128, 4) if layout == "view" else torch.cat([y[:, :4].mT, y[:, 4:].mT], dim=1)
    A, B = both[:, : out * height], both[:, 64 : 64 + into * width]
    wanted = (A @ B.mT).view(2, out, height, into, width).permute(0, 1, 3, 2, 4)
    torch.testing.assert_close(decoder.matrix(h, *shape), wanted)
    assert torch.linalg.matrix_rank((A @ B.mT)[0].double(), tol=1e-5) <= 4


def test_the_layouts_differ():
    h = torch.randn(1, 16)
    view, transpose = LowRank(16, 4, 64), LowRank(16, 4, 64, layout="transpose")
    transpose.load_state_dict(view.state_dict())
    assert not torch.allclose(view.matrix(h, 8, 8, 1, 1), transpose.matrix(h, 8, 8, 1, 1))


def test_a_smaller_matrix_is_the_corner_of_a_larger_one():
    decoder, h = LowRank(16, 4, 64), torch.randn(1, 16)
    torch.testing.assert_close(decoder.matrix(h, 5, 6, 1, 1), decoder.matrix(h, 40, 60, 1, 1)[:, :5, :6])


def test_no_k_by_k_array_is_made():
    decoder, sizes = LowRank(16, 4, 4096), []
    with torch.no_grad(), Largest(sizes):
        decoder.matrix(torch.randn(1, 16), 100, 90, 1, 1)
    assert max(sizes) < 4096 * 16  # K x 2r and less; K x K would be 16 million


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.sizes.append(out.numel())
        return out


def test_the_dense_decoder_grows_with_the_cube_and_gives_kernels():
    assert count(Dense(16, kernel=2).entries[2]) == 8 * 16**3 + 16**2
    assert Dense(16, kernel=4).matrix(torch.randn(3, 16), 8, 4, 2, 3).shape == (3, 8, 4, 2, 3)


def test_normalisation():
    p = torch.randn(64, 50, 1, 1)
    torch.testing.assert_close(normalised(p, "weight", "fan-in").std(), p.std() * (2 / 50) ** 0.5)
    assert normalised(torch.ones(8, 1, 3, 3), "weight", "fan-in")[0, 0, 0, 0] == pytest.approx(1 / 3)  # depth-wise: beta 1
    assert normalised(p, "weight", "standardised", 0.01).std() == pytest.approx(0.01, rel=1e-4)
    scale, bias = normalised(50 * p, "scale", "fan-in"), normalised(p, "bias", "fan-in")
    assert 0 <= scale.min() < scale.max() <= 2
    assert -1 < bias.min() < bias.max() < 1
    assert torch.equal(normalised(p, "table", "standardised"), p)


def test_shapes_snap_to_the_nearest_and_sizes_round_up_within_the_limit():
    known = channels((50257,))
    assert [known[snap(size, known)] for size in (2, 30, 770, 8193, 60000)] == [1, 32, 768, 8192, 50257]
    assert [rounded(size, 2048) for size in (6, 7, 768, 1024, 3072)] == [8, 7, 2048, 2048, 3072]


def test_the_graph_of_a_vit(vit):
    graph = vit.graph
    assert graph.tokens == {"vit.embeddings.cls_token"}
    assert set(graph.slots) == set(vit.shapes) - graph.tokens
    assert sum(node.operation == "msa" for node in graph.nodes) == 2
    assert all(a < b for a, b in graph.edges)
    qkv = next(node for node in graph.nodes if len(node.slots) == 3)
    assert [slot.name.split(".")[-2] for slot in qkv.slots] == ["q_proj", "k_proj", "v_proj"]
    assert (48, 16, 1, 1) in graph.node_shapes(vit.shapes)
    assert (1, 16, 4, 4) in graph.node_shapes(vit.shapes)  # the position grid, without the class token's row


def test_queries_keys_and_values_are_not_copies(vit):
    found = network()([(vit.graph, vit.shapes)])[0]
    q, k, v = (found[f"vit.layers.0.attention.{one}_proj.weight"] for one in "qkv")
    assert not torch.allclose(q, k)
    assert not torch.allclose(k, v)


@pytest.mark.parametrize("kv_heads", [2, 4])
def test_fused_rows_stand_where_they_do_at_every_width(kv_heads):
    """The first queries, keys and values of a wide model are the corner of the same array as a narrow one's; no row is used twice."""
    places = []
    for width in (16, 32):
        target = Target(config_of({**LLAMA, "hidden_size": width, "num_key_value_heads": kv_heads}))
        node = next(one for one in target.graph.nodes if len(one.slots) == 3)
        places.append([rows(slot, target.shapes) for slot in node.slots])
        assert sorted(np.concatenate(places[-1])) == list(range(target.graph.node_shapes(target.shapes)[target.graph.nodes.index(node)][0]))
    for narrow, wide in zip(*places, strict=True):
        assert np.array_equal(wide[: len(narrow)], narrow)


def test_class_tokens_are_the_same_at_each_step_and_width(vit):
    wide = Target(config_of({**VIT, "hidden_size": 48}))
    table, token = "vit.embeddings.position_embeddings", "vit.embeddings.cls_token"
    with torch.no_grad():
        narrow, again, other = (network(seed=seed)([(one.graph, one.shapes)])[0][table] for one, seed in ((vit, 0), (vit, 1), (wide, 0)))
    assert torch.equal(narrow[:, 0], again[:, 0])
    assert torch.equal(narrow[:, 0], other[:, 0, :16])
    assert not torch.equal(narrow[:, 1:], again[:, 1:])
    assert torch.equal(vit.fresh({token}, 0)[token], wide.fresh({token}, 3)[token][..., :16])
    assert wide.fresh({token}, 0)[token].std() == pytest.approx(0.02, rel=0.4)


def test_a_tied_table_is_counted_once_and_conv1d_is_read_as_it_lies(gpt):
    owners = [name for node in gpt.graph.nodes for name in (slot.name for slot in node.slots)]
    assert sorted(owners) == sorted(gpt.shapes)
    assert [node.shaped_like.name for node in gpt.graph.nodes if node.shaped_like] == ["transformer.wte.weight"]
    assert (48, 16, 1, 1) in gpt.graph.node_shapes(gpt.shapes)  # c_attn is kept as (16, 48)


def test_an_untied_head_is_a_tensor_of_its_own():
    assert "lm_head.weight" in Target(config_of({**GPT, "tie_word_embeddings": False})).graph.slots


def test_the_graph_of_a_llama(llama):
    operations = [node.operation for node in llama.graph.nodes]
    assert [operations.count(one) for one in ("rmsnorm", "gate", "rot_emb", "msa", "sum")] == [3, 1, 1, 1, 2]
    fused = [len(node.slots) for node in llama.graph.nodes if node.operation == "conv" and len(node.slots) > 1]
    assert fused == [3, 2]  # queries, keys, values; gate and up


def test_a_norm_that_adds_one_has_its_scale_less_one():
    gemma = Target(config_of({**LLAMA, "model_type": "gemma3_text", "head_dim": 4}))
    weight = network()([(gemma.graph, gemma.shapes)])[0]["model.norm.weight"]
    assert -1 < weight.min() < weight.max() < 1


def test_what_cannot_be_traced_names_the_operation():
    from regraft.grow.predict.trace import trace

    class Sparse(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x.nonzero()

    with pytest.raises(CheckpointError, match=r"cannot be traced.*sum"):
        trace(Sparse(4, 4), (torch.ones(2, 4),))


@pytest.mark.parametrize("settings", [{}, {"use_1d_decoder": True, "max_1d": 64}])
def test_gradients_reach_every_weight(vit, gpt, settings):
    net = network(**settings)
    sum(one.square().sum() for found in net([(vit.graph, vit.shapes), (gpt.graph, gpt.shapes)]) for one in found.values()).backward()
    assert not [name for name, one in net.named_parameters() if one.grad is None or not one.grad.abs().sum() > 0]


def test_padding_changes_nothing_and_equal_graphs_get_equal_weights(vit, gpt):
    net = network().eval()
    with torch.no_grad():
        alone = net.encode([(vit.graph, vit.shapes)])[0]
        padded = net.encode([(vit.graph, vit.shapes), (gpt.graph, gpt.shapes), (vit.graph, vit.shapes)], pad=70)
    torch.testing.assert_close(alone, padded[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(padded[0], padded[2])


def test_together_and_one_by_one_agree(gpt):
    net = network().eval()
    with torch.no_grad():
        together = net([(gpt.graph, gpt.shapes)])[0]
        vectors = net.encode([(gpt.graph, gpt.shapes)])[0]
        for name, ((number, slot),) in gpt.graph.slots.items():
            torch.testing.assert_close(net.tensor(vectors[number], slot, gpt.shapes), together[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("vocabulary", ["draw", "chunks", "tile"])
def test_a_vocabulary_past_the_decoders_reach(gpt, vocabulary):
    prediction = Prediction(gpt, network(), Options(vocabulary=vocabulary))
    table = prediction.tensor("transformer.wte.weight")
    assert table.shape == (300, 16)
    assert torch.equal(table[256:], table[: 300 - 256]) == (vocabulary == "tile")
    fate = next(one for one in prediction.fates if one.name == "transformer.wte.weight")
    assert (fate.how == "tiled") == (vocabulary == "tile")


def test_tiling_is_never_silent(vit):
    with pytest.raises(ParameterError, match=r"would be tiled.*--tile"):
        Prediction(vit, network(K=40), Options())
    narrow = Prediction(vit, network("ghn3", d=8, H=2, L=1, kernel=4, classes=[10]), Options(tile=True))
    weight = narrow.tensor("vit.layers.0.mlp.fc1.weight")
    assert torch.equal(weight[:8, :8], weight[8:16, 8:])
    noisy = Prediction(vit, narrow.network, Options(tile=True, noise=0.01)).tensor("vit.layers.0.mlp.fc1.weight")
    assert not torch.equal(noisy[:8, :8], noisy[8:16, 8:])
    torch.testing.assert_close(noisy, weight, atol=0.1 * float(weight.std()), rtol=0)


def test_clip_as_released_tiles_at_max_shape(vit):
    fates = Prediction(vit, network(clip="max_shape", max_shape=16), Options(tile=True)).fates
    assert {one.name.split(".")[-2] for one in fates if one.how == "tiled"} >= {"fc1", "fc2", "q_proj"}


def test_members_of_the_papers_spaces():
    rng = np.random.default_rng(0)
    base = {"num_channels": 3, "image_size": 32, "patch_size": 2, "num_labels": 10}
    for _ in range(2):
        one = VITS_1K.draw(rng, base)
        assert one["hidden_size"] % 32 == one["hidden_size"] % one["num_attention_heads"] == 0
        assert one["intermediate_size"] == 4 * one["hidden_size"]
        low, high = {3: (384, 512), 4: (256, 384), 5: (256, 384)}.get(one["num_hidden_layers"], (128, 256))
        assert low <= one["hidden_size"] <= high
        assert VITS_1K.size(one) <= 10_000_000
    assert GPTS_1K.draw(rng, {"vocab_size": 100})["tie_word_embeddings"] is False


def stripes(number=80):
    """Two kinds of 8 x 8 images: lit above, lit below."""
    labels = np.arange(number) % 2
    images = np.random.default_rng(0).normal(scale=0.3, size=(number, 1, 8, 8))
    images[labels == 0, :, :4] += 2
    images[labels == 1, :, 4:] += 2
    return of_images(images, labels, "stripes", {"patch_size": 4})


def test_meta_training_serves_narrow_and_wide_models_alike():
    torch.set_num_threads(1)
    targets, net = Targets(VITS_DIGITS.model_copy(update={"step": 8}), stripes(400)), network(classes=[2])
    train(net, targets, MetaTraining(steps=80, batch=16, lr=1e-3, look_every=0), seed=0)
    inputs, labels = targets.examples.kept
    for width in (16, 24, 32):
        target = targets.of(VITS_DIGITS.fields(2, width, 4, targets.examples.fields))
        with torch.no_grad():
            tensors = net([(target.graph, target.shapes)])[0]
            hits = logits_of(target, tensors, "pixel_values", inputs, 0).argmax(1) == labels
        assert hits.float().mean() > 0.8, width


@pytest.mark.slow
def test_digits_are_learned_by_all_widths_of_a_space_together():
    """Ten kinds of ViT at once: a loss of 1.35 after 400 steps, and 2.02 where queries, keys and values lie below each other."""
    torch.set_num_threads(1)
    targets, net = Targets(VITS_DIGITS, read_examples("digits", None)), network(r=16, K=640)
    size = VITS_DIGITS.fields(3, 32, 4, targets.examples.fields)
    looks = train(net, targets, MetaTraining(steps=400, lr=1e-3, look_every=400), seed=0, validation=size)
    assert looks[-1].loss < 1.6


def test_an_interrupted_run_goes_on_to_the_same_weights(tmp_path):
    targets, settings = Targets(VITS_DIGITS, stripes()), MetaTraining(steps=6, batch=4, m=2, look_every=2, ema=0.5)
    validation = VITS_DIGITS.fields(2, 48, 4, targets.examples.fields)
    whole, partial = network(), tmp_path / "state"
    looks = train(whole, targets, settings, seed=1, validation=validation, partial=partial, save_every=4)
    resumed = network(seed=9)  # its own start does not matter
    again = train(resumed, targets, settings, seed=1, validation=validation, partial=partial, save_every=4)
    assert again == looks
    for name, one in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], one)
    with pytest.raises(InputError, match="other settings"):
        train(network(), targets, MetaTraining(steps=7), seed=1, partial=partial)


def test_a_hypernetwork_saves_and_loads(tmp_path, hypernet_file):
    found, record = load(hypernet_file)
    assert record["space"]["model_type"] == "vit"
    assert all(torch.equal(one, network().state_dict()[name]) for name, one in found.state_dict().items())
    other = tmp_path / "model.safetensors"
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, other)
    for path, said in ((other, "not a hypernetwork"), (tmp_path / "absent", "no such file")):
        with pytest.raises(CheckpointError, match=said):
            load(path)


def invoke(*words):
    return CliRunner().invoke(app, ["grow", *map(str, words)])


def test_predict_writes_a_model_that_transformers_opens(tmp_path, hypernet_file, monkeypatch):
    from transformers import AutoModelForImageClassification

    monkeypatch.setattr("regraft.grow.predict.predict.SHARD", 4000)  # several shards
    config = tmp_path / "vit.yaml"
    config.write_text(yaml.safe_dump({**VIT, "hidden_size": 24}))
    out = tmp_path / "out"
    done = invoke("predict", config, "--hypernet", hypernet_file, "--out", out, "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads((out / "regraft.json").read_text())["metrics"]["new"]
    model, info = AutoModelForImageClassification.from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert {one["tensor"] for one in rows} == set(model.state_dict())
    assert {one["how"] for one in rows} == {"predicted", "drawn"}
    net, target = load(hypernet_file)[0], Target(config_of({**VIT, "hidden_size": 24}))
    with torch.no_grad():
        wanted = net([(target.graph, target.shapes)])[0]["classifier.weight"]
    torch.testing.assert_close(model.classifier.weight.detach(), wanted, atol=1e-5, rtol=1e-4)


def test_predict_keeps_a_tied_head_tied(tmp_path, hypernet_file):
    from transformers import AutoModelForCausalLM

    (tmp_path / "config.json").write_text(json.dumps({**GPT, "vocab_size": 200}))
    done = invoke("predict", tmp_path, "--hypernet", hypernet_file, "--out", tmp_path.parent / "gpt-out", "--dtype", "bfloat16")
    assert done.exit_code == 0, done.output
    assert "trained on vit" in done.output
    model = AutoModelForCausalLM.from_pretrained(tmp_path.parent / "gpt-out")
    assert model.lm_head.weight is model.transformer.wte.weight
    assert model.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"hidden_size": 18}, "nearest widths for 4 heads: 16 or 20"),
        ({"model_type": "vitt"}, "model_type 'vitt'"),
        ({"num_labels": -3}, "num_labels: -3: how many classes there are, 1 or more"),
        ({"hiden_size": 16}, "no field 'hiden_size'"),
        ({"intermediate_size": 300}, "would be tiled"),
    ],
)
def test_bad_targets_are_one_line(tmp_path, hypernet_file, fields, said):
    config = tmp_path / "vit.yaml"
    config.write_text(yaml.safe_dump({**VIT, **fields}))
    done = invoke("predict", config, "--hypernet", hypernet_file, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert not (tmp_path / "out").exists()


def test_a_hypernetwork_by_the_command_line(tmp_path):
    file = tmp_path / "hypernet.safetensors"
    words = ["vits-digits", "--data", "digits", "--out", file, "--steps", 2, "--set", "d=16", "--set", "L=1", "--set", "H=2"]
    done = invoke("hypernet", *words, "--set", "r=4", "--set", "K=256", "--train-set", "m=2", "--json")
    assert done.exit_code == 0, done.output
    assert load(file)[1]["training"]["m"] == 2
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["vits", "--data", "digits"], "no such space"),
        (["vits-digits", "--data", "absent.npz"], "cannot be read"),
        (["vits-digits", "--data", "digits", "--validate", "3,50"], "take 48 or 52"),
        (["vits-digits", "--data", "digits", "--set", "d=30"], "multiple of 4"),
        (["vits-digits", "--data", "digits", "--set", "H=5"], "not a multiple of H=5"),
        (["vits-digits", "--data", "digits", "--train-set", "gama=1"], "no parameter 'gama'"),
        (["vits-digits", "--data", "digits", "--steps", "0"], "steps=0"),
    ],
)
def test_bad_training_is_one_line(tmp_path, words, said):
    done = invoke("hypernet", *words, "--out", tmp_path / "h.safetensors")
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_images_that_cannot_be_learned_from():
    for images, labels, said in (
        (np.zeros((30, 8, 8)), np.arange(30), "must be"),
        (np.full((30, 1, 8, 8), np.nan), np.arange(30) % 2, "not finite"),
        (np.zeros((30, 1, 8, 8)), np.zeros(30), "all labels"),
    ):
        with pytest.raises(InputError, match=said):
            of_images(images, labels, "data")
