"""From vector files to a map, its figures, and back: the protocol by hand, what is kept, and every wrong input in one line."""

import json
import unicodedata

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from regraft.align.nearest import Retrieval
from regraft.align.report.figures import precision_bars
from regraft.align.words.dictionary import cover, identical_pairs, induced, numeral_pairs, read_pairs, split, without_identical
from regraft.align.words.evaluate import translate
from regraft.align.words.tables import open_table
from regraft.cli import app
from toys.directory import save_decoder

RNG = np.random.default_rng(0)
CONJUNCT = "ක්\u200dර"  # one letter for the eye, only with its joiner


def write_vec(path, words, rows):
    lines = [f"{word} {' '.join(f'{x:.6f}' for x in row)}" for word, row in zip(words, rows, strict=True)]
    path.write_text(f"{len(words)} {rows.shape[1]}\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two tables that are turns of each other with noise, and a dictionary in two parts."""
    folder = tmp_path_factory.mktemp("words")
    rows = (RNG.normal(size=(300, 10)) + RNG.normal(size=(8, 10))[RNG.integers(8, size=300)]).astype(np.float32)
    turned = rows @ np.linalg.qr(RNG.normal(size=(10, 10)))[0] + 0.05 * RNG.normal(size=(300, 10))
    order = RNG.permutation(300)
    write_vec(folder / "x.vec", [f"x{i}" for i in range(299)] + ["2024"], rows)
    write_vec(folder / "y.vec", [f"y{i}" if i < 299 else "2024" for i in order], turned[order])
    pairs = [f"x{i} y{i}\n" for i in range(299)]
    (folder / "train.txt").write_text("".join(pairs[:100]) + "x5 y250\nunknown y3\n")
    (folder / "test.txt").write_text("".join(pairs[100:200]) + "x100 y7\nabsent y9\nx101 missing\n")
    return folder


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["align", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def fitted(files, out, *more):
    given = ["fit", files / "x.vec", files / "y.vec", "--dictionary", files / "train.txt", "--out", out, "--json", *more]
    return json.loads(run(*given).stdout)


class TestDictionary:
    def test_all_translations_stay_and_joiners_and_case_too(self, tmp_path):
        path = tmp_path / "d.txt"
        decomposed = unicodedata.normalize("NFD", "é")
        path.write_text(f"the {CONJUNCT}\nthe ද\nthe ද\nThe ද\n{decomposed}\ttwo words\n", encoding="utf-8")
        assert read_pairs(path) == [("the", CONJUNCT), ("the", "ද"), ("The", "ද"), ("é", "two words")]

    def test_coverage_counts_pairs_and_words(self):
        pairs = [("a", "1"), ("a", "2"), ("b", "9"), ("c", "1")]
        found = cover(pairs, {"a": 0, "b": 1}, {"1": 0, "2": 1})
        assert found.pairs.tolist() == [[0, 0], [0, 1]]
        assert str(found) == "2 of 4 pairs, 1 of 3 source words"

    def test_seeds_without_a_dictionary(self):
        assert identical_pairs(["b", "a", "7"], ["7", "c", "b"]) == [("b", "b"), ("7", "7")]
        assert numeral_pairs(["x1", "12", "3.5"], ["१२", "3.5", "12"]) == [("12", "१२"), ("3.5", "3.5")]
        assert without_identical([("a", "a"), ("a", "b")]) == [("a", "b")]

    def test_a_split_is_disjoint_by_source_word_and_in_order(self):
        pairs = [(w, f"{w}{i}") for w in "dcba" for i in range(7)]
        train, test = split(pairs, ["a", "zz", "b", "c", "d"], train=2, test=1, translations=5)
        assert train == [(w, f"{w}{i}") for w in "ab" for i in range(5)]
        assert test == [("c", f"c{i}") for i in range(5)]

    def test_induction_keeps_the_most_probable(self):
        counts = {("a", "x"): 6.0, ("a", "z"): 2.0, ("a", "y"): 2.0, ("b", "x"): 1.0, ("a", "w"): 0.5}
        assert induced(counts, translations=2) == [("a", "x"), ("a", "y"), ("b", "x")]


class TestTables:
    def test_one_of_equal_words_and_only_so_many(self, tmp_path):
        rows = RNG.normal(size=(4, 3)).astype(np.float32)
        path = write_vec(tmp_path / "t.vec", ["é", unicodedata.normalize("NFD", "é"), CONJUNCT, "z"], rows)
        table = open_table(path, 2)
        assert table.words == ["é", CONJUNCT]
        np.testing.assert_allclose(table.matrix, rows[[0, 2]], atol=1e-5)
        assert open_table(path, latin=False).words == [CONJUNCT]

    def test_arrays_and_safetensors_with_words_beside_them(self, tmp_path):
        rows = RNG.normal(size=(3, 4)).astype(np.float32)
        (tmp_path / "t.txt").write_text("a\nb\nc\n")
        np.save(tmp_path / "t.npy", rows)
        save_file({"vectors": rows, "bias": rows[0]}, tmp_path / "t.safetensors")
        for name in ("t.npy", "t.safetensors"):
            np.testing.assert_array_equal(open_table(tmp_path / name).matrix, rows)

    def test_of_a_checkpoint_its_whole_words_without_special_rows(self, tmp_path):
        save_decoder(tmp_path / "m")
        table = open_table(tmp_path / "m")
        assert len(table.words) == len(set(table.words)) > 10
        assert not {"<s>", "</s>", "<unk>", "<|endoftext|>"} & set(table.words)


@pytest.mark.parametrize("method", ["procrustes", "least-squares", "refined-procrustes", "rcsls", "vecmap"])
def test_from_files_to_figures(files, tmp_path, method):
    figures = fitted(files, tmp_path / "map", "--method", method)
    assert (figures["pairs"], figures["pairs_given"], figures["words"], figures["words_given"]) == (101, 102, 100, 101)
    assert (tmp_path / "map" / "regraft.json").is_file()
    done = json.loads(run("evaluate", tmp_path / "map", "--dictionary", files / "test.txt", "--json", "--out", tmp_path / "p.html").stdout)
    assert [(row["direction"], row["retrieval"]) for row in done["rows"]] == [
        ("source to target", "csls"),
        ("source to target", "nn"),
        ("target to source", "csls"),
        ("target to source", "nn"),
    ]
    first = done["rows"][0]
    assert (first["words"], first["all_words"], first["pairs"], first["all_pairs"]) == (100, 101, 101, 103)
    assert first["p_at_1"] > 0.9
    assert first["p_at_1_low"] <= first["p_at_1"] <= first["p_at_1_high"]
    assert first["p_at_1_of_all"] == pytest.approx(first["p_at_1"] * 100 / 101)
    assert "Precision at 1" in (tmp_path / "p.html").read_text()
    rows = json.loads(run("search", tmp_path / "map", "--query", "x150", "--top", "3", "--json").stdout)["rows"]
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert rows[0]["neighbour"] == "y150"
    back = json.loads(run("search", tmp_path / "map", "--query", "y150", "--back", "--json", "--retrieval", "nn").stdout)["rows"]
    assert back[0]["neighbour"] == "x150"


def test_precision_is_the_protocol_by_hand():
    left, right = (RNG.normal(size=(30, 5)).astype(np.float32) for _ in range(2))
    left, right = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (left, right))
    pairs = np.array([[3, 4], [3, 9], [5, 0], [7, 4]])
    for back in (False, True):
        hits = translate(Retrieval(left, right), pairs, "nn", back=back)
        gold = {}
        for a, b in pairs.tolist():
            gold.setdefault(b if back else a, set()).add(a if back else b)
        cosines = right @ left.T if back else left @ right.T
        for k in (1, 5, 10):
            wanted = [bool(gold[word] & set(np.argsort(-cosines[word])[:k].tolist())) for word in sorted(gold)]
            assert hits.at(k).tolist() == wanted
    assert hits.interval(10)[0] <= hits.at(10).mean() <= hits.interval(10)[1]


def test_without_a_dictionary(files, tmp_path):
    assert fitted_with(files, tmp_path / "a", "--seeds", "numerals")["pairs"] == 1
    found = fitted_with(files, tmp_path / "b", "--method", "vecmap", "--set", "mode=unsupervised", "--set", "stochastic=[0.3, 2, 5]")
    assert found["pairs"] == 0
    rows = json.loads(run("evaluate", tmp_path / "b", "--dictionary", files / "test.txt", "--json").stdout)["rows"]
    assert rows[0]["p_at_1"] > 0.9


def fitted_with(files, out, *more):
    return json.loads(run("fit", files / "x.vec", files / "y.vec", "--out", out, "--json", *more).stdout)


def test_diagnosis_tells_turns_from_strangers(files, tmp_path):
    words = [f"x{i}" for i in range(300)]
    rows = RNG.normal(size=(300, 10)) * np.arange(10, 0, -1) ** 2
    write_vec(tmp_path / "other.vec", words, rows)
    near, far = (
        json.loads(run("diagnose", files / "x.vec", other, "--json").stdout) for other in (files / "y.vec", tmp_path / "other.vec")
    )
    assert near["spectral_gap"] < 2 * near["source_halves"]
    assert far["spectral_gap"] > 20 * far["source_halves"]
    assert near["start_precision"] is None
    assert far["identical"] == 299
    assert far["start_precision"] < 0.1
    assert "collapse" in far["reading"]
    assert run("diagnose", files / "x.vec", files / "x.vec").output.count("%") > 0


def test_the_tables_of_a_map_must_be_those_it_was_learned_from(files, tmp_path):
    for name in ("x.vec", "y.vec", "train.txt"):
        (tmp_path / name).write_bytes((files / name).read_bytes())
    fitted(tmp_path, tmp_path / "map")
    text = (tmp_path / "x.vec").read_text()
    (tmp_path / "x.vec").write_text(text.replace("x7 ", "q7 "))
    assert "not the table that the map was learned from" in refusal("search", tmp_path / "map", "--query", "x1")
    (tmp_path / "x.vec").unlink()
    assert "not there any more" in refusal("search", tmp_path / "map", "--query", "x1")


def refusal(*arguments):
    output = run(*arguments, code=2).output
    (line,) = [line for line in output.splitlines() if line.startswith("regraft: ")]
    return line


def test_bad_input_is_one_line_and_leaves_nothing(files, tmp_path):
    (tmp_path / "none.txt").write_text("q w\n")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "nan.vec").write_text("1 2\na nan 1\n")
    (tmp_path / "alone.vec").write_text("1 2\nalone 1 2\n")
    (tmp_path / "latin.txt").write_bytes("é\tè\n".encode("latin-1"))
    both = ["fit", files / "x.vec", files / "y.vec", "--out", tmp_path / "map"]
    for arguments, says in (
        (both, "no pairs to learn from: give --dictionary"),
        (["fit", tmp_path / "alone.vec", *both[2:], "--seeds", "numerals"], "--seeds numerals: the two tables share none"),
        ([*both, "--dictionary", tmp_path / "none.txt"], "none of 1 pairs has vectors on both sides"),
        ([*both, "--dictionary", tmp_path / "empty.txt"], "no line holds two words"),
        ([*both, "--dictionary", tmp_path / "gone.txt"], "cannot read the dictionary (no such file or directory): give"),
        ([*both, "--dictionary", tmp_path / "latin.txt"], "cannot read the dictionary (not UTF-8 text): give"),
        ([*both, "--seeds", "names"], "choose one of identical, numerals"),
        ([*both, "--seeds", "identical", "--dictionary", files / "train.txt"], "both given"),
        ([*both, "--seeds", "numerals", "--method", "rcsl"], "did you mean rcsls"),
        ([*both, "--seeds", "numerals", "--method", "rcsls", "--set", "lr=0"], "rcsls: lr=0 is not accepted"),
        ([*both, "--seeds", "numerals", "--target-latin", "--no-source-latin"], "no word in it that could be aligned"),
        (["fit", tmp_path / "nan.vec", files / "y.vec", "--seeds", "identical", "--out", tmp_path / "map"], "NaN"),
        (["fit", tmp_path / "gone.vec", files / "y.vec", "--seeds", "identical", "--out", tmp_path / "map"], "no such file"),
        (["fit", tmp_path, files / "y.vec", "--seeds", "identical", "--out", tmp_path / "map"], "config.json"),
        (["evaluate", tmp_path, "--dictionary", files / "test.txt"], "not a map (it has no map.json): give a directory"),
        (["diagnose", tmp_path / "gone.vec", files / "y.vec"], "no such file"),
    ):
        assert says in refusal(*arguments)
    assert not (tmp_path / "map").exists()
    fitted(files, tmp_path / "map")
    assert "not empty" in refusal(*both, "--seeds", "numerals")
    for arguments, says in (
        (["search", tmp_path / "map", "--query", "nobody"], "none of 1 words is in"),
        (["search", tmp_path / "map", "--query", tmp_path / "empty.txt"], "no word in it"),
        (["search", tmp_path / "map", "--query", "x1", "--retrieval", "knn"], "choose one of nn, csls"),
        (["evaluate", tmp_path / "map", "--dictionary", tmp_path / "none.txt"], "none of 1 test pairs"),
    ):
        assert says in refusal(*arguments)


class TestCompare:
    def test_all_maps_beside_least_squares_and_again_from_what_was_kept(self, files, tmp_path):
        given = ["compare", files / "x.vec", files / "y.vec", "--dictionary", files / "train.txt", "--test", files / "test.txt"]
        rows = json.loads(run(*given, "--out", tmp_path / "c", "--json").stdout)["rows"]
        assert rows[0]["method"] == "least-squares"
        assert {row["method"] for row in rows[1:]} == {"procrustes", "refined-procrustes", "rcsls", "vecmap"}
        assert all(row["error"] is None for row in rows)
        values = [row["p_at_1_csls"] for row in rows[1:]]
        assert values == sorted(values, reverse=True)
        fitted(files, tmp_path / "map", "--method", "procrustes")
        alone = json.loads(run("evaluate", tmp_path / "map", "--dictionary", files / "test.txt", "--json").stdout)["rows"]
        (row,) = [row for row in rows if row["method"] == "procrustes"]
        assert [row["p_at_1_csls"], row["p_at_5_nn"], row["back_p_at_1_csls"]] == [
            alone[0]["p_at_1"],
            alone[1]["p_at_5"],
            alone[2]["p_at_1"],
        ]
        lines = (tmp_path / "c" / "rows.jsonl").read_text()
        assert json.loads(run(*given, "--out", tmp_path / "c", "--json").stdout)["rows"] == rows
        assert (tmp_path / "c" / "rows.jsonl").read_text() == lines
        assert "Precision at 1" in (tmp_path / "c" / "comparison.html").read_text()
        more = [*given, "--methods", "rcsls", "--set", "rcsls.niter=1", "--out", tmp_path / "c", "--json"]
        assert [row["method"] for row in json.loads(run(*more).stdout)["rows"]] == ["least-squares", "rcsls"]

    def test_wrong_input_is_one_line(self, files, tmp_path):
        given = ["compare", files / "x.vec", files / "y.vec", "--dictionary", files / "train.txt", "--test"]
        (tmp_path / "none.txt").write_text("q w\n")
        for arguments, says in (
            ([*given, files / "train.txt"], "are in"),
            ([*given, tmp_path / "none.txt"], "none of 1 test pairs"),
            ([*given, files / "test.txt", "--methods", "rcslz"], "did you mean rcsls"),
            ([*given, files / "test.txt", "--set", "lr=1"], "which method"),
            ([*given, files / "test.txt", "--methods", "rcsls", "--set", "vecmap.csls=1"], "vecmap is not compared"),
        ):
            assert says in refusal(*arguments)


def test_bars_have_ends_only_where_an_interval_is_known():
    row = {"direction": "vecmap", "p_at_1": 0.5}
    rows = [
        row | {"retrieval": "csls", "p_at_1_low": 0.4, "p_at_1_high": 0.7},
        row | {"retrieval": "nn", "p_at_1_low": None, "p_at_1_high": None},
    ]
    csls, nn = precision_bars(rows).data
    assert (csls.error_y.array[0], csls.error_y.arrayminus[0]) == pytest.approx((0.2, 0.1))
    assert nn.error_y.array is None
