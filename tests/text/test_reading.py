"""Poolings, transforms, chunks and tables: equal to their formulas; what is linear is written with stock parts."""

import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from typer.testing import CliRunner

from regraft.cli import app
from regraft.errors import ParameterError
from regraft.method import resolve
from regraft.text.encode import save_encoder
from regraft.text.reading.after import append, fit_after, unit
from regraft.text.reading.late import late_chunks
from toys import models

TEXTS = ["the cat sat on a mat", "another hat", "a", "that rat ran far past an old map of the land"]


def states_of(text):
    with torch.no_grad():
        return models.llama().model.eval()(torch.tensor([models.tokenizer()(text)["input_ids"]]), output_hidden_states=True).hidden_states


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    return (rng.normal(size=(60, 8)) @ rng.normal(size=(8, 8)) + rng.normal(size=8)).astype(np.float32)


def call(*more):
    return CliRunner().invoke(app, ["text", "encode", *map(str, more)])


def test_the_first_token_is_left_out_and_a_single_one_stays(llama_folder):
    found = resolve("encoder", "drop-first").build(llama_folder).encode(TEXTS)
    for text, row in zip(TEXTS, found, strict=True):
        states = states_of(text)[-1][0]
        np.testing.assert_allclose(row, states[min(1, len(states) - 1) :].mean(0).numpy(), atol=2e-5)


def test_power_means_by_hand(llama_folder):
    found = resolve("encoder", "power-means", {"powers": "1,3,min,max"}).build(llama_folder).encode(TEXTS)
    for text, row in zip(TEXTS, found, strict=True):
        states = states_of(text)[-1][0].double().numpy()
        expected = [states.mean(0), np.cbrt((states**3).mean(0)), states.min(0), states.max(0)]
        np.testing.assert_allclose(row, np.concatenate(expected), atol=2e-5)


def test_elmo_with_equal_weights_is_the_mean_of_layers_and_learns_others(llama_folder):
    model = resolve("encoder", "elmo-mix").build(llama_folder)
    mean = resolve("encoder", "layers", {"layers": "all"}).build(llama_folder).encode(TEXTS)
    np.testing.assert_allclose(model.encode(TEXTS), mean, atol=1e-5)
    with torch.no_grad():
        model[1].gamma.fill_(3.0)
    np.testing.assert_allclose(model.encode(TEXTS), 3 * mean, atol=1e-4)
    with torch.no_grad():
        model[1].s[2] = 50.0
    np.testing.assert_allclose(model.encode([TEXTS[0]])[0], 3 * states_of(TEXTS[0])[2][0].mean(0).numpy(), atol=1e-4)
    model.train()
    model(model.preprocess(TEXTS))["sentence_embedding"].sum().backward()
    assert model[1].s.grad.abs().sum() > 0


def test_chunks_of_a_long_text_are_averaged_by_what_they_add(llama_folder):
    model = resolve("encoder", "chunk-and-pool", {"overlap": 3}).build(llama_folder, max_tokens=10)
    text = " ".join(TEXTS)
    ids = models.tokenizer()(text)["input_ids"]
    pieces = model[0].pieces(text)
    assert sum(new for _, new in pieces) == len(ids)
    assert pieces[0][1] == 10
    plain = resolve("encoder", "mean").build(llama_folder)
    weights = np.array([new for _, new in pieces])
    expected = (plain.encode([piece for piece, _ in pieces]) * weights[:, None]).sum(0) / weights.sum()
    found = model.encode([TEXTS[1], text])
    np.testing.assert_allclose(found[1], expected, atol=1e-5)
    np.testing.assert_allclose(found[0], plain.encode([TEXTS[1]])[0], atol=1e-5)
    with pytest.raises(ParameterError, match="overlap=10"):
        resolve("encoder", "chunk-and-pool", {"overlap": 10}).build(llama_folder, max_tokens=10).encode([text])


def test_late_chunks_are_means_of_states_that_have_read_all(llama_folder, bert_folder):
    text = " ".join(TEXTS)
    vectors, ends = late_chunks(resolve("encoder", "mean").build(llama_folder), text, tokens=7)
    states = states_of(text)[-1][0]
    for number, row in enumerate(vectors):
        np.testing.assert_allclose(row, states[number * 7 : number * 7 + 7].mean(0).numpy(), atol=2e-5)
    assert "".join(text[a:b] for a, b in ends).replace(" ", "") == text.replace(" ", "")
    whole, _ = late_chunks(resolve("encoder", "mean").build(bert_folder), TEXTS[3], tokens=100)
    read = models.wordpiece()(TEXTS[3], return_tensors="pt")
    with torch.no_grad():
        inner = models.bert().bert(**read).last_hidden_state[0, 1:-1]
    np.testing.assert_allclose(whole[0], inner.mean(0).numpy(), atol=2e-5)


def test_late_chunks_of_a_document_longer_than_the_model_keep_their_context(llama_folder):
    text = " ".join(TEXTS * 4)
    body = resolve("encoder", "mean").build(llama_folder, max_tokens=40)
    vectors, ends = late_chunks(body, text, tokens=8, overlap=16)
    ids = models.tokenizer()(text)["input_ids"]
    assert len(vectors) == -(-len(ids) // 8) == len(ends)
    with torch.no_grad():  # the second window begins 16 tokens before what it adds
        states = models.llama().model.eval()(torch.tensor([ids[24:64]])).last_hidden_state[0]
    np.testing.assert_allclose(vectors[5], states[16:24].mean(0).numpy(), atol=2e-5)
    assert late_chunks(body, "")[0].shape == (0, 16)


def test_centering_whitening_and_removed_directions(rows):
    assert np.abs(fit_after(rows, "center")(rows).mean(0)).max() < 1e-5
    white = fit_after(rows, "whiten")(rows)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(8), atol=1e-4)
    u = np.linalg.svd(rows.astype(float), full_matrices=False)[2][0]
    removed = fit_after(rows, "remove-first")(rows)
    np.testing.assert_allclose(removed @ u, 0, atol=1e-4)
    np.testing.assert_allclose(removed, rows - np.outer(rows @ u, u), atol=1e-4)
    axes = np.linalg.svd(rows - rows.mean(0), full_matrices=False)[2][:2]
    left = fit_after(rows, "all-but-the-top", 2)(rows)
    np.testing.assert_allclose(left, (rows - rows.mean(0)) @ (np.eye(8) - axes.T @ axes), atol=1e-4)
    flat = rows.copy()
    flat[:, 3] = 1.0
    assert fit_after(flat, "whiten")(flat).shape == (60, 7)
    with pytest.raises(ParameterError, match="too few"):
        fit_after(rows[:1], "center")


@pytest.mark.parametrize("after", ["center", "all-but-the-top", "remove-first", "whiten"])
def test_a_transform_is_a_stock_layer_and_unit_length_comes_last(after, bert_folder, rows, tmp_path):
    model = resolve("encoder", "mean", {"normalize": True}).build(bert_folder)
    transform = fit_after(model.encode(models.texts(60)), after)
    append(model, transform).save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    found = SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(found, unit(transform(model.encode(TEXTS))), atol=1e-4)


def test_sif_by_hand_and_in_plain_sentence_transformers(tmp_path):
    rng = np.random.default_rng(0)
    table, words = rng.normal(size=(5, 4)).astype(np.float32), ["the", "cat", "sat", "mat", "hat"]
    np.save(tmp_path / "v.npy", table)
    (tmp_path / "v.txt").write_text("\n".join(words))
    (tmp_path / "counts").write_text("the 90\ncat 6\nsat 4\n")
    (tmp_path / "texts.txt").write_text("the cat sat\nthe hat\ncat mat hat\n")
    weight = dict(zip(words, [1e-3 / (1e-3 + p) for p in (0.9, 0.06, 0.04)] + [1.0, 1.0], strict=True))
    rows = np.stack(
        [np.mean([weight[w] * table[words.index(w)] for w in s.split()], axis=0) for s in ("the cat sat", "the hat", "cat mat hat")]
    )
    settings = {"counts": str(tmp_path / "counts")}
    np.testing.assert_allclose(
        resolve("encoder", "sif", settings).build(tmp_path / "v.npy").encode(["The cat sat", "the hat", "cat mat hat"]), rows, atol=1e-6
    )
    save_encoder(tmp_path / "v.npy", tmp_path / "saved", method="sif", settings=settings | {"fit": str(tmp_path / "texts.txt")})
    u = np.linalg.svd(rows, full_matrices=False)[2][0]
    plain = SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(["cat mat hat"])
    np.testing.assert_allclose(plain[0], rows[2] - u * (rows[2] @ u), atol=1e-5)
    np.testing.assert_allclose(plain @ u, 0, atol=1e-5)


def test_sif_of_a_checkpoint_weighs_its_tokens(llama_folder):
    found = resolve("encoder", "sif", {"a": 1e6}).build(llama_folder).encode(["the cat"])  # so large an a weighs all alike
    table = models.llama().model.embed_tokens.weight.detach().numpy()
    np.testing.assert_allclose(found[0], table[models.tokenizer()("the cat")["input_ids"]].mean(0), atol=1e-4)


def test_rows_stay_in_step_with_a_table_and_empty_texts_are_zeros(bert_folder, tmp_path):
    texts = ["the cat", "", "a mat", "   ", None, "the cat"]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in texts))
    done = call(
        bert_folder, "--text", tmp_path / "t.jsonl", "--out", tmp_path / "v.npy", "--pooling", "mean", "--after", "center", "--json"
    )
    assert done.exit_code == 0, done.output
    rows = np.load(tmp_path / "v.npy")
    assert [not row.any() for row in rows] == [False, True, False, True, True, False]
    np.testing.assert_allclose(rows[0], rows[5], atol=1e-6)
    np.testing.assert_allclose(rows.sum(0), 0, atol=1e-5)
    assert json.loads((tmp_path / "v.json").read_text())["empty"] == 3


def test_an_instruction_without_room_for_a_text_is_refused(bert_folder, tmp_path):
    (tmp_path / "t.txt").write_text("the cat\n")
    done = call(bert_folder, "--text", tmp_path / "t.txt", "--out", tmp_path / "v.npy", "--max-tokens", 8, "--instruction", "the cat " * 9)
    assert done.exit_code == 2
    assert "leave no room for a text" in " ".join(done.output.split())


def test_a_document_of_100_000_tokens_is_read_by_every_kind(tmp_path):
    models.llama(layers=1).save_pretrained(tmp_path / "small")
    models.tokenizer().save_pretrained(tmp_path / "small")
    (tmp_path / "t.txt").write_text("the cat sat on a mat " * 16_700)
    for way in (
        ["--pooling", "chunk-and-pool"],
        ["--pooling", "prompt-eol"],
        ["--pooling", "mean", "--chunk-tokens", "5000"],
    ):
        done = call(tmp_path / "small", "--text", tmp_path / "t.txt", "--out", tmp_path / "v.npy", "--max-tokens", 256, *way, "--json")
        assert done.exit_code == 0, done.output
        assert len(np.load(tmp_path / "v.npy")) == (1 if "--chunk-tokens" not in way else 27), way


@pytest.mark.parametrize(("precision", "shape"), [("int8", (4, 6)), ("binary", (4, 1))])
def test_shapes_of_vectors_go_together(precision, shape, llama_folder, tmp_path):
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": one}) + "\n" for one in TEXTS))
    (tmp_path / "fit.txt").write_text("\n".join(models.texts(40)))
    asked = [
        "--after",
        "whiten",
        "--fit",
        tmp_path / "fit.txt",
        "--dimensions",
        6,
        "--precision",
        precision,
        "--save-model",
        tmp_path / "m",
    ]
    done = call(llama_folder, "--text", tmp_path / "t.jsonl", "--out", tmp_path / "v.npy", "--pooling", "prompt-eol", *asked)
    assert done.exit_code == 0, done.output
    found = np.load(tmp_path / "v.npy")
    assert found.shape == shape
    if precision == "binary":
        kept = SentenceTransformer(str(tmp_path / "m"), device="cpu").encode(TEXTS)[:, :6]
        bits = np.unpackbits(found.view(np.uint8) ^ 128, axis=1)[:, :6]
        np.testing.assert_array_equal(bits, kept > 0)


@pytest.mark.parametrize(
    ("more", "said"),
    [(["--after", "center", "--fit", "none.txt"], "none.txt"), (["--after", "centre"], "choose none"), (["--fit", "t.txt"], "--after")],
)
def test_a_transform_that_cannot_be_had(more, said, bert_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text("the cat\n")
    done = call(bert_folder, "--text", "t.txt", "--out", "v.npy", *more)
    assert done.exit_code == 2
    assert said in done.output
    assert not (tmp_path / "v.npy").exists()
