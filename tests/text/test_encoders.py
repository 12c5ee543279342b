"""Ways of encoding: equal to their formulas, whatever the padding; written so that plain sentence-transformers opens them."""

import copy
import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from typer.testing import CliRunner

from regraft.cli import app
from regraft.datasets.models import encoder_folder
from regraft.errors import CheckpointError
from regraft.method import resolve
from regraft.text.encode import quantized, save_encoder
from regraft.text.loading import load
from toys import models

TEXTS = ["the cat sat on a mat", "another hat", "that rat ran far past an old map of the land"]
FORMULAS = {
    "mean": lambda states: states.mean(0),
    "weighted-mean": lambda states: (states * torch.arange(1, len(states) + 1)[:, None]).sum(0) / sum(range(1, len(states) + 1)),
    "last-token": lambda states: states[-1],
    "first": lambda states: states[0],
    "maximum": lambda states: states.max(0).values,
}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", FORMULAS)
def test_a_pooling_is_its_formula_on_each_text_alone_whatever_the_padding(name, side, llama_folder):
    model = resolve("encoder", name).build(llama_folder)
    model.tokenizer.padding_side = side
    found = model.encode(TEXTS)
    body, tokenizer = models.llama().model.eval(), models.tokenizer()
    for text, row in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            states = body(torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state[0]
        np.testing.assert_allclose(row, FORMULAS[name](states).numpy(), atol=2e-5)


@pytest.mark.parametrize("name", ["mean", "prompt-eol"])
def test_a_chat_template_is_not_set_around_texts_before_or_after_saving(name, llama_folder, tmp_path):
    folder = tmp_path / "chat"
    models.llama().save_pretrained(folder)
    tokenizer = copy.deepcopy(models.tokenizer())
    tokenizer.chat_template = "{% for m in messages %}the land {{ m['content'] }} far{% endfor %}"
    tokenizer.save_pretrained(folder)
    plain = resolve("encoder", name).build(llama_folder).encode(TEXTS, prompt="a map ")
    np.testing.assert_allclose(resolve("encoder", name).build(folder).encode(TEXTS, prompt="a map "), plain, atol=1e-6)
    save_encoder(folder, tmp_path / "saved", method=name)
    saved = SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(TEXTS, prompt="a map ")
    np.testing.assert_allclose(saved, plain, atol=1e-6)


def test_an_instruction_is_attended_to_and_not_pooled(llama_folder):
    model = resolve("encoder", "mean").build(llama_folder)
    found = model.encode(["a mat"], prompt="the cat sat on ")[0]
    tokenizer, body = models.tokenizer(), models.llama().model.eval()
    ids = tokenizer("the cat sat on a mat")["input_ids"]
    own = len(tokenizer("the cat sat on ")["input_ids"])
    with torch.no_grad():
        states = body(torch.tensor([ids])).last_hidden_state[0]
    np.testing.assert_allclose(found, states[own:].mean(0).numpy(), atol=2e-5)


def test_as_is_is_what_the_library_gives():
    own = SentenceTransformer(str(encoder_folder()), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(resolve("encoder", "as-is").build(encoder_folder()).encode(TEXTS), own, atol=1e-6)


@pytest.mark.parametrize("name", ["mean", "last-token"])
def test_a_saved_encoder_opens_in_plain_sentence_transformers(name, bert_folder, tmp_path):
    save_encoder(bert_folder, tmp_path / "saved", method=name)
    plain = SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(resolve("encoder", name).build(bert_folder).encode(TEXTS), plain, atol=1e-6)


def test_int8_leaves_a_constant_dimension_at_0_and_the_rest_as_the_library_has_it():
    rows = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    rows[:, 3] = 0.5
    found = quantized(rows, "int8")
    assert (found[:, 3] == 0).all()
    assert np.corrcoef(found[:, 0], rows[:, 0])[0, 1] > 0.999
    assert quantized(rows, "binary").shape == (50, 1)


def test_modules_of_other_packages_are_refused_by_name(bert_folder, tmp_path):
    save_encoder(bert_folder, tmp_path / "saved", method="mean")
    listed = json.loads((tmp_path / "saved" / "modules.json").read_text())
    listed[1]["type"] = "regraft.text.modules.nothing.Nothing"
    (tmp_path / "saved" / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(CheckpointError, match=r"no module regraft\.text\.modules\.nothing\.Nothing"):
        load(tmp_path / "saved")


def test_the_command_writes_one_row_a_text_in_their_order(bert_folder, tmp_path):
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS * 3))
    out = tmp_path / "v.npy"
    call = ["text", "encode", str(bert_folder), "--pooling", "mean", "--text", str(tmp_path / "texts.jsonl"), "--out", str(out)]
    done = CliRunner().invoke(app, [*call, "--dimensions", "8", "--json"])
    assert done.exit_code == 0, done.output
    rows = np.load(out)
    assert rows.shape == (9, 8)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(rows[:3], rows[3:6], atol=1e-6)
    whole = resolve("encoder", "mean").build(bert_folder).encode(TEXTS)[:, :8]
    np.testing.assert_allclose(rows[:3], whole / np.linalg.norm(whole, axis=1, keepdims=True), atol=1e-5)
    assert json.loads(out.with_suffix(".json").read_text())["texts"] == 9


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--pooling", "meen"], "unknown encoder 'meen': did you mean mean"),
        (["--dimensions", "99"], "--dimensions 99: the vectors have 16"),
        (["--precision", "int4"], "choose float32, int8 or binary"),
        (["--set", "layer=2", "--pooling", "mean"], "mean has no parameter 'layer'"),
    ],
)
def test_what_cannot_be_encoded_is_one_line(more, said, bert_folder, tmp_path):
    (tmp_path / "t.txt").write_text("the cat\n")
    done = CliRunner().invoke(
        app, ["text", "encode", str(bert_folder), "--text", str(tmp_path / "t.txt"), "--out", str(tmp_path / "v.npy"), *more]
    )
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert not (tmp_path / "v.npy").exists()
