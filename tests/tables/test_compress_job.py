"""`regraft tables compress`: arrays, words, model2vec folders and language models in; small tables out, and one line for bad input."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from regraft.cli import app
from regraft.tables.embedding import load_table
from regraft.tables.quality import Truth
from regraft.tables.sources import open_table
from toys import models as tiny_models
from toys.directory import domain_texts, save_decoder, snapshot

ROWS = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)


def compress(*arguments):
    return CliRunner().invoke(app, ["tables", "compress", *map(str, arguments)])


def figures(*arguments):
    done = compress(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def array(tmp_path):
    np.save(tmp_path / "rows.npy", ROWS)
    return tmp_path / "rows.npy"


def test_auto_keeps_the_best_recall_within_the_budget(array, tmp_path):
    out = tmp_path / "out"
    found = figures(array, "--budget", "35%", "--also", "60%", "--out", out)
    table = load_table(out)
    record = json.loads((out / "regraft.json").read_text())
    assert found["share"] <= 0.35
    assert found["bytes"] == table.memory().serving_bytes <= 0.35 * ROWS.nbytes
    assert record["method"]["name"] == table.name == found["method"]
    page = (out / "report.html").read_text()
    assert "Quality beside memory" in page
    for name in ("svd", "prune", "int8"):
        alone = figures(array, "--budget", "35%", "--method", name, "--out", tmp_path / name)
        assert found["recall"] >= alone["recall"]
    truth = Truth.of(torch.from_numpy(ROWS), None, k=10, queries=1000)
    assert truth.measure(table)["recall"] == pytest.approx(found["recall"])


def test_recall_is_that_of_an_exhaustive_search():
    weight = torch.from_numpy(ROWS)
    truth = Truth.of(weight, None, k=5, queries=50, seed=3)
    unit = weight / weight.norm(dim=1, keepdim=True)
    for query, found in zip(truth.queries.tolist(), truth.neighbours.tolist(), strict=True):
        scores = unit @ unit[query]
        scores[query] = -2
        assert sorted(found) == sorted(torch.topk(scores, 5).indices.tolist())


def test_words_keep_their_places(tmp_path):
    names = [f"w{number}" for number in range(300)]
    lines = [f"{name} {' '.join(f'{value:.6f}' for value in row)}" for name, row in zip(names, ROWS, strict=True)]
    (tmp_path / "a.vec").write_text("300 8\n" + "\n".join(lines) + "\n")
    figures(tmp_path / "a.vec", "--budget", "60%", "--method", "int16", "--out", tmp_path / "out")
    assert (tmp_path / "out" / "words.txt").read_text().splitlines() == names
    assert np.allclose(load_table(tmp_path / "out")(torch.tensor([7])), ROWS[7], atol=1e-3)


def test_a_model2vec_folder(tmp_path):
    tiny_models.tokenizer().save_pretrained(tmp_path / "m")
    count = len(tiny_models.tokenizer())
    rows = torch.randn(count, 8)
    save_file({"embeddings": rows}, tmp_path / "m" / "model.safetensors")
    (tmp_path / "m" / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True}))
    given = open_table(tmp_path / "m")
    assert torch.equal(given.weight, rows)
    assert len(given.words) == count
    figures(tmp_path / "m", "--budget", "30%", "--method", "int8", "--out", tmp_path / "out")
    assert load_table(tmp_path / "out").num_embeddings == count
    save_file({"embeddings": rows, "mapping": torch.arange(3)}, tmp_path / "m" / "model.safetensors")
    done = compress(tmp_path / "m", "--budget", "30%", "--out", tmp_path / "no")
    assert (done.exit_code, (tmp_path / "no").exists()) == (2, False)


def test_a_language_model_loads_with_the_rows_of_the_small_table(tmp_path):
    model, text, out = save_decoder(tmp_path / "model"), tmp_path / "notes.txt", tmp_path / "out"
    text.write_text("\n\n".join(domain_texts(20)), encoding="utf-8")
    before = snapshot(model)
    found = figures(model, "--budget", "60%", "--method", "svd", "--corpus", text, "--out", out)
    live = AutoModelForCausalLM.from_pretrained(out)
    plain = AutoModelForCausalLM.from_pretrained(model)
    rows = load_table(out).decompressed()
    assert torch.allclose(live.get_input_embeddings().weight, rows.to(live.dtype))
    assert not torch.allclose(rows, plain.get_input_embeddings().weight, atol=1e-3)
    assert torch.equal(live.model.layers[0].mlp.up_proj.weight, plain.model.layers[0].mlp.up_proj.weight)
    assert found["after"]["bits_per_byte"] - found["before"]["bits_per_byte"] == pytest.approx(found["difference"]["bits_per_byte"])
    assert found["difference"]["bits_per_byte"] != 0
    assert snapshot(model) == before
    assert CliRunner().invoke(app, ["undo", str(out), "--out", str(tmp_path / "back")]).exit_code == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"--budget": "0"}, "more than 0"),
        ({"--budget": "101%"}, "more than 0 and at most 1"),
        ({"--budget": "much"}, "write a share"),
        ({"--budget": "10%", "--method": "int8"}, "the least is"),
        ({"--budget": "0.0001"}, "no method can do that"),
        ({"--method": "compo"}, "no method that compresses"),
        ({"--set": "rank=3"}, "name it with --method"),
        ({"--method": "svd", "--set": "rank=many"}, "rank"),
        ({"--method": "svd", "--set": "parts=2"}, "no parameter 'parts'"),
        ({"--similarity": "near"}, "choose cosine or inner"),
        ({"--corpus": "notes.txt"}, "no language model"),
    ],
)
def test_bad_options_are_one_line(array, tmp_path, change, said):
    given = {"--budget": "50%", "--out": str(tmp_path / "out")} | change
    done = compress(array, *(part for pair in given.items() for part in pair))
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (ROWS[0], "shape (8,)"),
        (np.zeros((0, 8), np.float32), "0 rows"),
        (np.zeros((9, 8), np.float32), "not all zero"),
        (np.where(ROWS > 2, np.nan, ROWS), "NaN"),
        (np.array([["a", "b"]]), "real numbers"),
        (np.array([[None, 1]], dtype=object), "not a plain NumPy table"),
    ],
)
def test_tables_that_are_none(tmp_path, rows, said):
    np.save(tmp_path / "bad.npy", rows, allow_pickle=True)
    done = compress(tmp_path / "bad.npy", "--budget", "50%", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


def test_files_that_are_not_there(tmp_path, array):
    for path in (tmp_path / "absent.npy", tmp_path):
        done = compress(path, "--budget", "50%", "--out", tmp_path / "out" / "x")
        assert done.exit_code == 2, done.output
    array.write_bytes(array.read_bytes()[:500])
    assert compress(array, "--budget", "50%", "--out", tmp_path / "out").exit_code == 2
