"""`regraft align relative` and `stitch`: what goes in, what comes out whole, and what is refused in one line."""

import json

import numpy as np
import pytest
from transformers import BertConfig, BertModel
from typer.testing import CliRunner

from regraft.align.aligner import load_map
from regraft.align.anchors import AnchorSet
from regraft.align.stitching.text_encoder import TextEncoder
from regraft.cli import app
from toys.models import texts, wordpiece

RNG = np.random.default_rng(0)
LEFT = RNG.normal(size=(120, 6)).astype(np.float32)
RIGHT = np.hstack([LEFT @ np.linalg.qr(RNG.normal(size=(6, 6)))[0] + 0.1 * RNG.normal(size=(120, 6)), np.zeros((120, 2))]).astype(
    np.float32
)


def run(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments])


def refused(result, says):
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("regraft: ")]
    assert len(lines) == 1
    assert says in lines[0], lines[0]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", LEFT)
    np.save("b.npy", RIGHT)
    return tmp_path


# relative


def test_relative_measures_and_keeps_anchors_and_map(place):
    result = run("align", "relative", "a.npy", "b.npy", "--anchors", 30, "--k", 5, "--out", "out", "--json")
    found = json.loads(result.stdout)
    assert (found["pairs"], found["samples"], found["dimensions"]) == (120, 90, [6, 8])
    values = {way: {one["measure"]: one for one in measures} for way, measures in found["ways"].items()}
    assert set(values["as they are"]) == {"jaccard@5", "cka", "cka biased"}
    assert values["relative"]["mrr"]["value"] > 0.9
    assert values["mapped"]["cosine"]["value"] > 0.9
    assert all(one["low"] <= one["value"] <= one["high"] for measures in values.values() for one in measures.values())
    names = ["agreement.json", "anchors.json", "map.json", "map.safetensors", "regraft.json", "report.html"]
    assert sorted(path.name for path in (place / "out").iterdir()) == names
    anchors = AnchorSet.load("out/anchors.json")
    kept = load_map("out")
    np.testing.assert_array_equal(kept.source_anchors_, LEFT[anchors.positions([str(row) for row in range(120)])])
    about = json.loads((place / "out" / "regraft.json").read_text())
    assert (about["verb"], about["seed"], about["method"]["name"]) == ("align relative", 0, "relative-representations")
    again = json.loads(run("align", "relative", "a.npy", "b.npy", "--anchors", "out/anchors.json", "--k", 5, "--json").stdout)
    assert again["ways"] == found["ways"]
    refused(run("align", "relative", "a.npy", "b.npy", "--anchors", 30, "--out", "out"), "exists and is not empty")


def test_words_are_paired_by_their_strings(place):
    words = [f"w{number}" for number in range(120)]
    (place / "a.json").write_text(json.dumps(words))
    order = RNG.permutation(120)
    np.save("b.npy", RIGHT[order])
    (place / "b.json").write_text(json.dumps([words[row] for row in order[:-20]] + [f"other{row}" for row in range(20)]))
    result = run("align", "relative", "a.npy", "b.npy", "--anchors", 20, "--sampler", "frequent", "--out", "out")
    assert result.exit_code == 0, result.output
    assert "as they are" in result.stdout
    shared = [word for word in words if int(word[1:]) in set(order[:-20].tolist())]
    assert AnchorSet.load("out/anchors.json").ids == tuple(shared[:20])
    (place / "b.json").unlink()
    refused(run("align", "relative", "a.npy", "b.npy"), "an array without words beside a file of words")


def test_relative_refuses_what_it_can_not_use(place):
    (place / "classes.txt").write_text("x\n" * 119)
    (place / "text.npy").write_text("no array")
    np.save("rows.npy", LEFT[:50])
    np.save("whole.npy", np.arange(120)[:, None])
    np.save("few.npy", LEFT[:5])
    np.save("pickled.npy", np.array([{}] * 3), allow_pickle=True)
    np.savez("several.npz", a=LEFT)
    (place / "several.npz").rename("several.npy")
    broken = LEFT.copy()
    broken[7, 0] = np.nan
    np.save("broken.npy", broken)
    for arguments, says in (
        (("nowhere.npy", "b.npy"), "nowhere.npy: no such file"),
        (("text.npy", "b.npy"), "text.npy: not a plain NumPy array"),
        (("pickled.npy", "b.npy"), "pickled.npy: not a plain NumPy array"),
        (("whole.npy", "b.npy"), "give floating-point rows"),
        (("rows.npy", "b.npy"), "50 rows"),
        (("few.npy", "few.npy"), "at least 10 pairs"),
        (("broken.npy", "b.npy"), "row 7 holds NaN"),
        (("a.npy", "b.npy"), "300 asked for, and there are 120"),
        (("a.npy", "b.npy", "--anchors", 113), "7 pairs to measure on"),
        (("a.npy", "b.npy", "--anchors", 1), "give at least 2"),
        ((".", "b.npy"), ".: a directory"),
        (("several.npy", "b.npy"), "several arrays"),
        (("a.npy", "b.npy", "--anchors", "nowhere.txt"), "nowhere.txt: no such file"),
        (("a.npy", "b.npy", "--anchors", "classes.txt"), "'x'"),
        (("a.npy", "b.npy", "--anchors", 20, "--sampler", "best"), "--sampler best: choose one of"),
        (("a.npy", "b.npy", "--anchors", 20, "--sampler", "frequent"), "rows have no frequency"),
        (("a.npy", "b.npy", "--anchors", 20, "--sampler", "stratified"), "give --labels"),
        (("a.npy", "b.npy", "--anchors", 20, "--sampler", "stratified", "--labels", "classes.txt"), "119 lines for 120 pairs"),
        (("a.npy", "b.npy", "--anchors", 20, "--similarity", "best"), "similarity='best'"),
        (("a.npy", "b.npy", "--anchors", 20, "--steps", "best"), "steps='best'"),
    ):
        refused(run("align", "relative", *arguments, "--out", "out"), says)
    assert not (place / "out").exists()


# stitch


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Two tiny encoders, a copy of the first, and labelled sentences whose class is a word in them."""
    import torch

    root = tmp_path_factory.mktemp("encoders")
    for name, hidden, seed in (("first", 16, 0), ("copy", 16, 0), ("wide", 24, 1)):
        torch.manual_seed(seed)
        config = BertConfig(
            vocab_size=80, hidden_size=hidden, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, pad_token_id=0
        )
        BertModel(config).save_pretrained(root / name)
        wordpiece().save_pretrained(root / name)
    rows = [{"text": f"{text} {number}", "label": "cat" if "cat" in text else "none"} for number, text in enumerate(texts(150, seed=3))]
    (root / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root


def test_an_encoder_stitched_to_its_copy_is_not_stitched(encoders, tmp_path):
    given = ("--data", encoders / "data.jsonl", "--anchors", 24, "--seeds", 2, "--out", tmp_path / "out", "--json")
    result = run("align", "stitch", encoders / "copy", encoders / "first", *given)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    by_way = {row["head reads"]: row["accuracy"] for row in found["stitching"]}
    assert by_way["its own encoder, first"] == by_way["copy, absolute"]
    matrix = {(row["encoder"], row["head"]): row for row in found["matrix"]}
    assert matrix["copy", "first"]["relative"] == matrix["first", "first"]["relative"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "anchors.json", "decoder-anchors.json", "regraft.json", "report.html", "stitching.json",
    ]  # fmt: skip
    anchors = AnchorSet.load(tmp_path / "out" / "anchors.json")
    assert (len(anchors), anchors.method, anchors.encoder) == (24, "stratified", "copy")
    np.testing.assert_array_equal(anchors.encode(TextEncoder(encoders / "copy")).shape, (24, 16))


def test_other_dimensions_leave_the_absolute_cell_blank_and_pairs_may_be_given(encoders, tmp_path):
    lines = texts(20, seed=9)
    (tmp_path / "a.txt").write_text("\n".join(lines))
    (tmp_path / "b.txt").write_text("\n".join(line.upper() for line in lines))
    given = ("--data", encoders / "data.jsonl", "--anchors", tmp_path / "a.txt", "--decoder-anchors", tmp_path / "b.txt", "--seeds", 1)
    result = run("align", "stitch", encoders / "wide", encoders / "first", *given, "--json")
    rows = {row["head reads"]: row["accuracy"] for row in json.loads(result.stdout)["stitching"]}
    assert rows["wide, absolute"] is None
    assert 0 <= rows["wide, relative"] <= 1
    assert run("align", "stitch", encoders / "wide", encoders / "first", *given).stdout.startswith("wide stitched to a head of first")


def test_both_ways_of_reading_an_encoder_agree(encoders, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    words = Transformer(str(encoders / "first"))
    SentenceTransformer(modules=[words, Pooling(16)], device="cpu").save_pretrained(str(tmp_path / "modules"))
    lines = texts(30, seed=1)
    plain, modules = TextEncoder(encoders / "first"), TextEncoder(tmp_path / "modules")
    assert (plain.modules, modules.modules) == (False, True)
    np.testing.assert_allclose(plain(lines), modules(lines), atol=1e-5)
    np.testing.assert_allclose(plain(lines)[4:5], plain(lines[4:5]), atol=1e-5)
    assert np.abs(TextEncoder(encoders / "first", pooling="cls")(lines) - plain(lines)).max() > 0.01


def test_stitch_refuses_what_it_can_not_use(encoders, tmp_path):
    (tmp_path / "one.txt").write_text("a cat\n\nb")
    (tmp_path / "two.txt").write_text("a cat")
    (tmp_path / "three.txt").write_text("a cat\na mat")
    rows = [json.loads(line) for line in (encoders / "data.jsonl").read_text().splitlines()]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows[:20])))
    (tmp_path / "tested.txt").write_text(rows[0]["text"])
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    data = ("--data", encoders / "data.jsonl")
    first = encoders / "first"
    for left, more, says in (
        (tmp_path, data, "no encoder there"),
        (tmp_path / "folder", data, "cannot be opened as an encoder"),
        (first, ("--data", tmp_path / "nothing.jsonl"), "no such file"),
        (first, (*data, "--anchors", 5000), "5000 asked for"),
        (first, (*data, "--anchors", 5, "--decoder-anchors", tmp_path / "two.txt"), "needs --anchors FILE"),
        (first, (*data, "--anchors", tmp_path / "two.txt", "--decoder-anchors", tmp_path / "three.txt"), "2 lines for 1 anchors"),
        (first, (*data, "--anchors", tmp_path / "one.txt", "--decoder-anchors", tmp_path / "one.txt"), "line 2: no anchor in it"),
        (first, (*data, "--test", tmp_path / "test.jsonl", "--anchors", tmp_path / "tested.txt"), "1 of them are test texts"),
        (first, (*data, "--pooling", "max"), "--pooling max"),
        (first, (*data, "--device", "gpu"), "--device gpu"),
        (first, (*data, "--steps", "best", "--anchors", 20), "steps='best'"),
    ):
        refused(run("align", "stitch", left, first, *more, "--out", tmp_path / "out"), says)
    assert not (tmp_path / "out").exists()
