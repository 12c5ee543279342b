"""Sizes: all of them from one pass, the terms of the loss apart, a cut that is the exit, refusals with the nearest size."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CoSENTLoss, Matryoshka2dLoss, MultipleNegativesRankingLoss
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div, normalize
from typer.testing import CliRunner

from datasets import Dataset
from regraft.cli import app
from regraft.errors import CheckpointError, EvaluationError, ParameterError
from regraft.method import resolve
from regraft.text.fitting import Budget
from regraft.text.sizes.cutting import cut_to
from regraft.text.sizes.exits import exits, final_norm, shape_of
from regraft.text.sizes.losses import RetrievalLoss, SimilarityLoss
from regraft.text.sizes.size import KEY, PAPER, Kept, kept, sizes_of
from toys import models
from toys.guide_runner import run_guide
from toys.models import texts

SIZES = sizes_of((5, 16))
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "text-sizes.md"


@pytest.fixture(scope="module")
def encoder(bert_folder):
    """Without dropout, so that two passes give the same."""
    return still(resolve("encoder", "mean", {"normalize": True}).build(bert_folder))


@pytest.fixture(scope="module")
def decoder(llama_folder):
    return still(resolve("encoder", "mean", {"normalize": True}).build(llama_folder))


@pytest.fixture(scope="module")
def trained(bert_folder, tmp_path_factory):
    """A checkpoint that was trained at several sizes, by the command."""
    folder = tmp_path_factory.mktemp("starbucks")
    rows = [
        {"sentence1": a, "sentence2": b, "score": float(n % 3)} for n, (a, b) in enumerate(zip(texts(40, 1), texts(40, 2), strict=True))
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    call = ["text", "train", str(bert_folder), "--pooling", "mean", "--method", "starbucks", "--examples", str(folder / "pairs.jsonl")]
    done = CliRunner().invoke(app, [*call, "--steps", "3", "--batch-size", "4", "--tasks", "", "--out", str(folder / "model"), "--json"])
    assert done.exit_code == 0, done.output
    return folder / "model"


def still(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model


def columns(model, count=2, rows=4):
    return [model.preprocess(texts(rows, seed)) for seed in range(count)]


def gradients(model, value):
    model.zero_grad()
    value.backward()
    return {name: None if one.grad is None else one.grad.clone() for name, one in model.named_parameters()}


LABELS = torch.tensor([0.0, 3.0, 1.0, 2.0])


@pytest.mark.parametrize("base", [CoSENTLoss, MultipleNegativesRankingLoss])
def test_the_full_size_alone_is_the_base_loss_bit_for_bit(encoder, base):
    ours = SimilarityLoss(encoder, [(5, 16)], base(encoder), kl_weight=0.0)
    plain = base(encoder).compute_loss_from_embeddings([*encoder_columns(encoder)], LABELS)
    wanted = gradients(encoder, plain)
    value = ours(columns(encoder), LABELS)
    assert torch.equal(value, plain)
    for name, found in gradients(encoder, value).items():
        assert (found is None) == (wanted[name] is None)
        assert found is None or torch.equal(found, wanted[name]), name


def encoder_columns(model):
    """Columns embedded by the library in one batch, as its losses do with columns of one width."""
    from sentence_transformers.base.losses.merged_forward import embed_columns

    return embed_columns(model, columns(model), separate_first=False)


def test_the_loss_is_the_sum_of_terms_computed_apart(encoder):
    """Each exit read from the library's hidden states, pooled and cut by hand; pairs with a negative."""
    given = columns(encoder, 3)
    loss = SimilarityLoss(encoder, SIZES, MultipleNegativesRankingLoss(encoder))
    raw = {}
    for one in given:
        with torch.no_grad():
            states = encoder[0].auto_model(one["input_ids"], attention_mask=one["attention_mask"], output_hidden_states=True).hidden_states
        mask = one["attention_mask"][..., None]
        for layer, state in enumerate(states):
            raw.setdefault(layer, []).append((state * mask).sum(1) / mask.sum(1))
    total = 0.0
    for layer, width in SIZES:
        anchor, positive, negative = (normalize(one[:, :width], dim=1) for one in raw[layer])
        cosine = cosine_similarity(anchor[:, None], torch.cat([positive, negative])[None], dim=-1)
        total += cross_entropy(20 * cosine, torch.arange(4))
        if (layer, width) != (5, 16):
            p, q = (torch.cat(raw[n])[:, :width].softmax(-1) for n in (5, layer))
            total += 0.3 * (p * (p.log() - q.log())).sum(-1).mean()
    assert loss(given, None).item() == pytest.approx(total.item(), rel=1e-5)


def test_retrieval_terms_computed_apart(encoder):
    given = columns(encoder, 3)
    loss = RetrievalLoss(encoder, SIZES, temperature=2.0, kl_weight=0.5)
    with torch.no_grad():
        found = exits(encoder, given, range(6))
        value = loss(given, None)
    total, full = 0.0, None
    for layer, width in sorted(SIZES, reverse=True):
        query, positive, negative = (one[:, :width] for one in found[layer])
        scores = query @ torch.cat([positive, negative]).T / 2
        full = scores if full is None else full
        total += cross_entropy(scores, torch.arange(4))
        total += 0.5 * kl_div(scores.log_softmax(-1), full.softmax(-1), reduction="batchmean")
    assert value.item() == pytest.approx(total.item(), rel=1e-5)


@pytest.mark.parametrize("which", ["encoder", "decoder"])
def test_a_cut_gives_the_vectors_of_the_exit(which, request, tmp_path):
    """In plain sentence-transformers; its forward pass really ends there."""
    model = request.getfixturevalue(which)
    assert type(final_norm(model[0].auto_model)).__name__ == {"encoder": "Identity", "decoder": "LlamaRMSNorm"}[which]
    some = texts(6, 9)
    with torch.no_grad():
        found = exits(model, [model.preprocess(some)], [3, 5])
    for size in [(3, 4), (3, 16), (5, 8), (5, 16)]:
        folder = tmp_path / f"{size[0]}-{size[1]}"
        cut_to(model, size).save_pretrained(str(folder), create_model_card=False)
        small = SentenceTransformer(str(folder), device="cpu")
        wanted = normalize(found[size[0]][0][:, : size[1]], dim=1).numpy()
        np.testing.assert_allclose(small.encode(some), wanted, atol=1e-6)
        assert small[0].auto_model.config.num_hidden_layers == size[0]
        assert small.get_embedding_dimension() == size[1]
    assert shape_of(model) == (5, 16)


@pytest.mark.parametrize("kind", ["ModernBert", "Qwen3"])
def test_models_with_a_kind_of_attention_a_layer(kind, tmp_path):
    """`cut_to` itself compares the cut with the exit; a final norm that is overlooked is found so."""
    shape = {
        "vocab_size": 120,
        "hidden_size": 16,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "pad_token_id": 0,
    }
    config = getattr(transformers, f"{kind}Config")(
        **shape, **({"num_key_value_heads": 2, "head_dim": 8, "use_sliding_window": True, "sliding_window": 8} if kind == "Qwen3" else {})
    )
    config.layer_types = ["full_attention", "sliding_attention"] * 2
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}Model")(config)
    torch.nn.init.uniform_(final_norm(model).weight, 1, 3)
    model.save_pretrained(tmp_path)
    models.wordpiece().save_pretrained(tmp_path)
    encoder = resolve("encoder", "mean").build(tmp_path)
    small = cut_to(encoder, (3, 8))
    assert small[0].auto_model.config.layer_types == ["full_attention", "sliding_attention", "full_attention"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("regraft.text.sizes.exits.final_norm", lambda _: torch.nn.Identity())
        with pytest.raises(EvaluationError, match="gives other vectors than its own layer 3"):
            cut_to(encoder, (3, 8))


def test_a_cut_that_is_trained_alone_keeps_its_dimensions(bert_folder, tmp_path):
    """The baseline of a model for each size."""
    resolve("encoder", "mean").build(bert_folder).save_pretrained(str(tmp_path), create_model_card=False)
    small = resolve("encoder", "cut", {"layers": 2, "dimensions": 4, "untrained": True}).build(tmp_path)
    before = small[0].auto_model.encoder.layer[1].output.dense.weight.clone()
    rows = Dataset.from_list([{"anchor": a, "positive": a + " again"} for a in texts(16, 7)])
    resolve("tuner", "contrastive").train(small, rows, Budget(steps=2, batch_size=8, lr=1e-3))
    assert torch.equal(small[2].linear.weight, torch.eye(4, 16))
    assert not torch.equal(small[0].auto_model.encoder.layer[1].output.dense.weight, before)


def test_the_teacher_learns_nothing_when_detached_and_something_when_not(encoder):
    found = exits(encoder, columns(encoder), [1, 5])
    for detach in (True, False):
        loss = SimilarityLoss(encoder, [(1, 8), (5, 16)], CoSENTLoss(encoder), detach=detach)
        (teacher,) = torch.autograd.grad(loss.divergence(found, (1, 8)), [found[5][0]], allow_unused=True, retain_graph=True)
        assert (teacher is None or not teacher.any()) is detach
        scores = RetrievalLoss(encoder, [(1, 8), (5, 16)], detach=detach)
        (teacher,) = torch.autograd.grad(scores.divergence(found, (1, 8)), [found[5][0]], allow_unused=True, retain_graph=True)
        assert (teacher is None or not teacher.any()) is detach


def test_an_exit_that_equals_the_teacher_has_no_divergence(encoder):
    rows = [torch.randn(4, 16) for _ in range(2)]
    loss = SimilarityLoss(encoder, [(2, 8), (5, 16)], CoSENTLoss(encoder))
    assert loss.divergence({2: rows, 5: rows}, (2, 8)).item() == pytest.approx(0, abs=1e-6)
    assert loss.divergence({2: [one.roll(1, 1) for one in rows], 5: rows}, (2, 8)) > 0.1
    scores = RetrievalLoss(encoder, [(2, 16), (5, 16)])
    assert scores.divergence({2: rows, 5: rows}, (2, 16)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("detach", [True, False])
def test_layers_above_an_exit_learn_from_it_through_the_teacher_alone(encoder, detach):
    loss = SimilarityLoss(encoder, [(2, 8), (5, 16)], CoSENTLoss(encoder), detach=detach)
    found = exits(encoder, columns(encoder), [2, 5])
    got = gradients(encoder, loss.terms(found, LABELS)[2, 8])
    above = [got[name] for name in got if any(f"layer.{n}." in name for n in (2, 3, 4))]
    below = [got[name] for name in got if any(f"layer.{n}." in name for n in (0, 1))]
    assert all(one is not None for one in below)
    assert any(one is not None and one.any() for one in above) is not detach


def test_one_forward_pass_a_step(encoder):
    calls = []
    # the library calls `forward` past the model's own hooks
    handle = encoder[0].auto_model.embeddings.register_forward_hook(lambda *_: calls.append(1))
    SimilarityLoss(encoder, SIZES, CoSENTLoss(encoder))(columns(encoder), LABELS)
    handle.remove()
    assert len(calls) == 1


def test_equals_the_librarys_2d_loss_when_set_like_it(encoder):
    """All layers from 0, prior ones averaged; with widths and no divergence, then with one and its temperature."""
    stock = {"n_layers_per_step": -1, "n_dims_per_step": -1}
    encoder = SentenceTransformer(modules=list(encoder)[:2], device="cpu")  # theirs takes the divergence after all modules
    widths = [16, 4]
    sizes = [(n, d) for n in range(6) for d in widths]
    weights = [1.0 if n == 5 else 1 / 5 for n, _ in sizes]
    base = CoSENTLoss(encoder)
    theirs = Matryoshka2dLoss(encoder, base, widths, kl_temperature=0.0, **stock)(columns(encoder), LABELS)
    ours = SimilarityLoss(encoder, sizes, base, weights=weights, kl_weight=0.0)(columns(encoder), LABELS)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    theirs = Matryoshka2dLoss(encoder, base, [16], **stock)(columns(encoder), LABELS)
    sizes, weights = [(n, 16) for n in range(6)], [1 / 5] * 5 + [1.0]
    ours = SimilarityLoss(encoder, sizes, base, weights=weights, kl_weight=5.0, temperature=0.3)(columns(encoder), LABELS)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.parametrize("way", ["chunk", "checkpointing"])
def test_less_memory_the_same_gradients(bert_folder, way):
    model = still(resolve("encoder", "mean", {"normalize": True}).build(bert_folder)).train()
    loss = SimilarityLoss(model, SIZES, CoSENTLoss(model))
    wanted = gradients(model, loss(columns(model), LABELS))
    if way == "chunk":
        loss.chunk = 3
    else:
        model[0].auto_model.gradient_checkpointing_enable()
    for name, found in gradients(model, loss(columns(model), LABELS)).items():
        assert found is None or torch.allclose(found, wanted[name], atol=1e-5), name


def test_the_order_of_sizes_is_nothing_and_a_weight_stays_with_its_size(encoder):
    base, found = CoSENTLoss(encoder), exits(encoder, columns(encoder), range(6))
    there = SimilarityLoss(encoder, SIZES, base, weights=[0.0, 2.0, 1.0, 1.0, 1.0]).terms(found, LABELS)
    back = SimilarityLoss(encoder, SIZES[::-1], base, weights=[1.0, 1.0, 1.0, 2.0, 0.0]).terms(found, LABELS)
    plain = SimilarityLoss(encoder, SIZES, base).terms(found, LABELS)
    assert there == back
    assert there[2, 2] == 2 * plain[2, 2]
    assert there[1, 1] == 0


def test_drawn_sizes_keep_their_own_dimensions(encoder):
    loss = SimilarityLoss(encoder, SIZES, CoSENTLoss(encoder), per_step=2)
    for _ in range(20):
        full, *others = loss.drawn()
        assert full == (5, 16)
        assert len(set(others)) == 2
        assert set(others) <= set(SIZES)


def test_released_code_leaves_the_teacher_attached_and_ignores_weights(encoder):
    made = resolve("tuner", "starbucks", {"compat": "released", "weights": [1, 2, 3, 4, 5]}).loss(
        encoder, ["sentence1", "sentence2", "score"]
    )
    assert not made.detach
    assert set(made.weights.values()) == {1.0}
    assert resolve("tuner", "starbucks", {}).loss(encoder, ["score"]).detach


def test_sizes_by_the_rule():
    assert sizes_of((12, 768)) == PAPER
    assert sizes_of((6, 384)) == ((1, 12), (2, 24), (3, 48), (4, 96), (5, 192), (6, 384))
    assert sizes_of((30, 576)) == ((5, 18), (10, 36), (15, 72), (20, 144), (25, 288), (30, 576))
    assert sizes_of((2, 16)) == ((1, 8), (2, 16))
    assert sizes_of((6, 384), "depth", 3) == ((2, 384), (4, 384), (6, 384))
    assert sizes_of((6, 384), "width", 2) == ((6, 192), (6, 384))
    assert len(sizes_of((6, 384), "grid")) == 36
    assert sizes_of((6, 384), "4,96 2,24") == ((4, 96), (2, 24), (6, 384))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("7,12", "this encoder has 6 layers and 384 dimensions"),
        ("2,0", "6 layers"),
        ("2,24 2,24", "give each size once"),
        ("", "give each size once, at least one"),
        ("two", "write layers and dimensions with a comma"),
        ([(2, 2.5)], "a pair of layers and dimensions"),
    ],
)
def test_sizes_that_are_none(wanted, said):
    with pytest.raises(ParameterError, match=said):
        sizes_of((6, 384), wanted)


def test_bad_losses_are_one_line(encoder):
    with pytest.raises(ParameterError, match="the full size 5,16 must be among them"):
        SimilarityLoss(encoder, [(2, 8)], CoSENTLoss(encoder))
    with pytest.raises(ParameterError, match="3 weights for 5 sizes"):
        resolve("tuner", "starbucks", {"weights": [1, 1, 1]}).loss(encoder, ["score"])
    with pytest.raises(ParameterError, match="not from scored pairs"):
        resolve("tuner", "starbucks", {"variant": "retrieval"}).loss(encoder, ["score"])
    with pytest.raises(ParameterError, match="queries beside passages"):
        RetrievalLoss(encoder, SIZES)(columns(encoder, 1), None)


def test_a_size_that_was_not_trained_names_the_nearest(trained, tmp_path):
    done = CliRunner().invoke(app, ["text", "cut", str(trained), "--size", "3,5", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    assert "size 3,5 was not trained: the nearest are 3,4 or" in said
    assert not (tmp_path / "out").exists()
    assert Kept(sizes_of((6, 384)), True).nearest((4, 128)) == [(4, 96), (5, 192)]


def test_a_model_that_was_trained_at_no_size(bert_folder, tmp_path):
    resolve("encoder", "mean").build(bert_folder).save_pretrained(str(tmp_path / "plain"), create_model_card=False)
    for verb in (["cut", "--size", "3,4", "--out", str(tmp_path / "out")], ["sizes"]):
        done = CliRunner().invoke(app, ["text", verb[0], str(tmp_path / "plain"), *verb[1:]])
        assert done.exit_code == 2
        assert "it was not trained at any size but its own" in " ".join(done.output.split())
    model = resolve("encoder", "cut", {"layers": 2, "dimensions": 4, "untrained": True}).build(tmp_path / "plain")
    assert model.encode(["cat"]).shape == (1, 4)
    setattr(model[0].auto_model.config, KEY, {"sizes": [1, 2], "normalize": True})
    with pytest.raises(CheckpointError, match=r"regraft_sizes in its config.json is damaged"):
        kept(model[0].auto_model.config)


def test_the_command_cuts_to_a_plain_checkpoint(trained, tmp_path):
    out = tmp_path / "small"
    done = CliRunner().invoke(app, ["text", "cut", str(trained), "--size", "3,4", "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    small = SentenceTransformer(str(out), device="cpu")
    assert small[0].auto_model.config.num_hidden_layers == 3
    assert figures["parameters"] == sum(one.numel() for one in small.parameters()) < figures["parameters_before"]
    np.testing.assert_allclose(np.linalg.norm(small.encode(texts(3)), axis=1), 1, atol=1e-6)
    way = resolve("encoder", "cut", {"layers": 3, "dimensions": 4}).build(trained)
    np.testing.assert_allclose(way.encode(texts(3)), small.encode(texts(3)), atol=1e-6)
    assert kept(small[0].auto_model.config).sizes == ((1, 1), (2, 2), (3, 4))  # and can be cut again
    again = resolve("encoder", "cut", {"layers": 2, "dimensions": 2}).build(out)
    np.testing.assert_allclose(
        again.encode(texts(3)), resolve("encoder", "cut", {"layers": 2, "dimensions": 2}).build(trained).encode(texts(3)), atol=1e-6
    )


@pytest.mark.parametrize("method", ["matryoshka", "matryoshka-2d"])
def test_baselines_train_and_keep_their_sizes(bert_folder, method):
    model = resolve("encoder", "mean", {"normalize": True}).build(bert_folder)
    rows = Dataset.from_list([{"anchor": a, "positive": a + " again"} for a in texts(16, 7)])
    resolve("tuner", method, {"dimensions": [4, 16]}).train(model, rows, Budget(steps=2, batch_size=8))
    found = kept(model[0].auto_model.config).sizes
    assert found == {"matryoshka": ((5, 4), (5, 16))}.get(method, tuple((n, d) for n in range(1, 6) for d in (4, 16)))


def test_a_retrieval_model_is_not_of_unit_length(bert_folder, tmp_path):
    model = resolve("encoder", "first", {"normalize": True}).build(bert_folder)
    rows = Dataset.from_list(
        [{"anchor": a, "positive": a + " again", "negative": b} for a, b in zip(texts(16, 7), texts(16, 8), strict=True)]
    )
    resolve("tuner", "starbucks", {"variant": "retrieval"}).train(model, rows, Budget(steps=2, batch_size=8))
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    small = resolve("encoder", "cut", {"layers": 3, "dimensions": 4}).build(tmp_path / "model")
    assert small.similarity_fn_name == "dot"
    wanted = exits(small, [small.preprocess(["the cat"])], [3])[3][0]
    np.testing.assert_allclose(small.encode(["the cat"]), wanted.detach().numpy(), atol=1e-6)
    assert abs(np.linalg.norm(small.encode(["the cat"])) - 1) > 1e-3


def test_the_guide_runs_as_it_stands(bert_folder, tmp_path, monkeypatch):
    """On a toy: its names stand for the model, its sizes and steps for smaller ones."""
    monkeypatch.chdir(tmp_path)
    resolve("encoder", "mean").build(bert_folder).save_pretrained("minilm", create_model_card=False)
    Path("bert").symlink_to(bert_folder)
    pairs = zip(texts(40, 3), texts(40, 4), strict=True)
    rows = [{"sentence1": a, "sentence2": b, "score": n % 5} for n, (a, b) in enumerate(pairs)]
    Path("sts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("texts.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in texts(20, 5)))
    toy = {"360": "2", "1000": "2", "4,96": "4,8", "(1, 96)": "(1, 8)", "--examples sts": "--examples sts.jsonl --tasks sts.jsonl"}
    toy |= {"--tasks sts ": "--tasks sts.jsonl "}
    assert run_guide(GUIDE, toy) == 5
    assert SentenceTransformer("small", device="cpu").encode(["cat"]).shape == (1, 8)
    assert "Quality beside speed" in Path("measured/sizes.html").read_text("utf-8")
    found = json.loads(Path("measured/sizes.json").read_text())["rows"]
    assert [row["size"] for row in found] == ["1,1", "2,2", "3,4", "4,8", "5,16"]
    assert found[-1]["of_full"] == found[-1]["times_as_fast"] == 1
    assert found[0]["weights_mb"] < found[-1]["weights_mb"]
    assert Path("pretrained/regraft.json").is_file()
