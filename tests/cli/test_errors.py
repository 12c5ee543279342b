"""Bad input on the command line: exit code 2, one line that says what, where and what to do, and nothing left behind."""

import json
import os
import re
import shutil
import signal
import time

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from regraft.cli import app
from toys.directory import domain_texts, save_decoder, snapshot


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    root = tmp_path_factory.mktemp("cli")
    save_decoder(root / "model")
    (root / "notes").mkdir()
    (root / "notes" / "a.txt").write_text("\n".join(domain_texts()), encoding="utf-8")
    return root


@pytest.fixture
def place(shared, tmp_path, monkeypatch):
    """A private working directory with `model` and `notes`, entered."""
    shutil.copytree(shared / "model", tmp_path / "model")
    shutil.copytree(shared / "notes", tmp_path / "notes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def adapt(*more, model="model", corpus="notes", out="out", extend=("--extend", "5")):
    return run("adapt", model, "--corpus", corpus, "--out", out, "--no-score", *extend, *more)


def refused(result, *parts):
    """The one line on stderr; `parts` are patterns that it must hold."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("regraft: ")]
    assert len(lines) == 1
    assert result.stderr.splitlines()[-1] == lines[0], "the error is the last thing said"
    assert "Traceback" not in result.stderr
    for part in parts:
        assert re.search(part, lines[0]), f"{part!r} is not in {lines[0]!r}"
    return lines[0]


def at_once(result, *parts):
    """As `refused`, and before any work was announced: stderr is that one line."""
    refused(result, *parts)
    assert len(result.stderr.splitlines()) == 1


@pytest.fixture
def untouched(place):
    """Checks afterwards that the run left no output, no temporary sibling, and every input as it was."""
    yield place
    # what the test itself damaged was damaged before it ran `regraft`
    assert not (place / "out").exists()
    assert not [path for path in place.rglob("*") if ".regraft-" in path.name]


class TestOptions:
    def test_unknown_method_with_nearest_names(self, untouched):
        before = snapshot(untouched)
        at_once(adapt("--method", "constituent-meen"), "unknown initializer 'constituent-meen'", "constituent-mean", "regraft methods")
        at_once(adapt("--method", "ziptie"), "zip-tie")
        assert snapshot(untouched) == before

    @pytest.mark.parametrize(
        ("method", "pair", "parts"),
        [
            ("zip-tie", "weight=mean", ["zip-tie has no parameter 'weight'", "weights", "norm"]),
            ("mean", "c=1", ["mean has no parameter 'c'", "no parameters"]),
            ("multivariate", "c=lots", ["c='lots'", "number"]),
            ("multivariate", "c=-1e-3", ["c=-0.001", "greater than or equal to 0"]),
            ("multivariate", "c=.inf", ["c=inf", "finite"]),
            ("zip-tie", "norm=match", ["norm='match'", "'none' or 'match_script'"]),
            ("align", "consider_mean=[1]", [r"consider_mean=\[1\]", "boolean"]),
            ("align", "consider_mean", ["--set consider_mean", "field=value"]),
            ("align", "head=[a,", ["--set head", "YAML"]),
        ],
    )
    def test_unknown_and_ill_typed_settings(self, untouched, method, pair, parts):
        at_once(adapt("--method", method, "--set", pair), *parts)

    @pytest.mark.parametrize("count", ["0", "-3"])
    def test_nothing_to_extend(self, untouched, count):
        at_once(adapt(extend=("--extend", count)), f"--extend {count}", "at least 1")

    def test_more_pieces_than_the_corpus_supports(self, untouched):
        line = refused(adapt(extend=("--extend", "100000")), "asked for 100000 new pieces, the corpus supports [0-9]+", "--extend [0-9]+")
        supported = re.search(r"use --extend (\d+)", line)[1]
        result = adapt("--json", extend=("--extend", supported), out="enough")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["new_tokens"] == int(supported)

    def test_no_change_and_two_changes(self, untouched):
        at_once(adapt(extend=()), "exactly one of --extend, --replace, --words, --trim", "none")
        at_once(adapt("--trim"), "exactly one", "extend, trim")

    def test_unknown_route(self, untouched):
        refused(adapt("--route", "sideways"), "sideways", "continued, new-first, old-first")

    @pytest.mark.parametrize(
        ("arguments", "parts"),
        [
            (["--extend", "many"], ["--extend", "integer"]),
            (["--seed", "-1"], ["--seed", "greater than or equal to 0"]),
            (["--pad-to-multiple-of", "0"], ["--pad-to-multiple-of"]),
            (["--held-out", "1"], ["held-out share 1", "from 0 up to"]),
            (["--held-out", "half"], ["--held-out", "half|number"]),
            (["--score-bytes", "lots"], ["--score-bytes lots", "200k"]),
            (["--train", "soon"], ["--train soon", "2min"]),
            (["--train-set", "lr=1"], ["--train-set needs a budget"]),
            (["--train", "5", "--train-set", "lr=fast"], ["lr='fast'", "number"]),
            (["--train", "5", "--train-set", "learning_rate=1"], ["learning_rate", "lr"]),
            (["--dtype", "float33"], ["--dtype float33", "bfloat16"]),
            (["--device", "abacus"], ["--device abacus", "cpu"]),
            (["--bogus"], ["--bogus", "--help"]),
        ],
    )
    def test_values_that_make_no_sense(self, untouched, arguments, parts):
        extend = () if arguments[0] == "--extend" else ("--extend", "5")
        at_once(adapt(*arguments, extend=extend), *parts)

    def test_missing_arguments_and_unknown_verbs(self, untouched):
        at_once(run("adapt", "model"), "--corpus|--out", "--help")
        at_once(run("adapt"), "MODEL|--corpus|--out", "--help")
        at_once(run("adopt", "model"), "adopt", "adapt")

    def test_without_a_verb_it_helps(self):
        result = run()
        assert result.exit_code == 2
        assert "adapt" in result.output
        assert run("--help").exit_code == 0
        assert run("--version").exit_code == 0


class TestOutput:
    def test_an_existing_directory_is_kept(self, place):
        (place / "out").mkdir()
        (place / "out" / "thesis.txt").write_text("precious")
        before = snapshot(place)
        at_once(adapt(), "out: exists and is not empty", "--overwrite")
        assert snapshot(place) == before

    def test_overwrite_replaces_it_only_when_all_went_well(self, place):
        (place / "out").mkdir()
        (place / "out" / "old.txt").write_text("old")
        before = snapshot(place)
        refused(adapt("--overwrite", extend=("--extend", "100000")), "the corpus supports")
        assert snapshot(place) == before
        assert adapt("--overwrite").exit_code == 0
        assert not (place / "out" / "old.txt").exists()
        assert (place / "out" / "model.safetensors").is_file()
        assert sorted(path.name for path in place.iterdir()) == ["model", "notes", "out"]

    @pytest.mark.parametrize(
        ("out", "how"), [("model", "is the input itself"), ("model/new", "lies inside"), (".", "contains"), ("./model/../model", "itself")]
    )
    def test_the_model_itself(self, place, out, how):
        before = snapshot(place)
        for more in ([], ["--overwrite"]):
            at_once(adapt(*more, out=out), how, "choose another output directory")
        assert snapshot(place) == before

    def test_a_file(self, place):
        (place / "out").write_text("a file")
        before = snapshot(place)
        at_once(adapt(), "out: is a file")
        assert snapshot(place) == before

    def test_below_a_file(self, untouched):
        refused(adapt(out="notes/a.txt/out"), "out", "cannot be written|is a file|Not a directory")


class TestCorpus:
    def test_missing(self, untouched):
        at_once(adapt(corpus="absent"), "absent: no such file or folder")
        at_once(adapt(corpus="absent/*.txt"), "absent/.*pattern matches nothing")

    def test_empty(self, untouched):
        (untouched / "blank.txt").write_text(" \n\n\t\n")
        (untouched / "nothing").mkdir()
        at_once(adapt(corpus="blank.txt"), "blank.txt.*no text")
        at_once(adapt(corpus="nothing"), "nothing.*no text")

    def test_binary_files_are_skipped_and_counted(self, place):
        (place / "notes" / "photo.jpg").write_bytes(bytes(range(256)) * 20)
        (place / "notes" / "more.dat").write_bytes(b"\x00\x01" * 500)
        result = adapt("--json")
        assert result.exit_code == 0, result.output
        assert re.search(r"skipped 2 files of the corpus", result.stderr)
        assert "photo.jpg" in result.stderr.replace("\n", "")
        skipped = json.loads((place / "out" / "regraft.json").read_text())["corpus"]["skipped"]
        assert [path for path, _ in skipped] == ["notes/more.dat", "notes/photo.jpg"]

    def test_binary_files_only(self, untouched):
        (untouched / "bin").mkdir()
        (untouched / "bin" / "photo.jpg").write_bytes(bytes(range(256)) * 20)
        at_once(adapt(corpus="bin"), "no text that can be read", "photo.jpg")

    def test_no_learnable_pair(self, untouched):
        (untouched / "thin.txt").write_text("\n".join("abcdefghij"))
        refused(adapt(corpus="thin.txt"), "no pair of pieces", "more text")

    def test_word_lists(self, untouched):
        (untouched / "empty.txt").write_text("\n \n")
        refused(adapt("--words", "absent.txt", extend=()), "absent.txt.*cannot read the word list")
        refused(adapt("--words", "empty.txt", extend=()), "empty.txt: the word list is empty")


class TestModel:
    def test_missing(self, untouched):
        refused(adapt(model="./no/such/model"), "no/such/model: no such directory")

    def test_a_file_instead_of_a_directory(self, untouched):
        refused(adapt(model="model/config.json"), "config.json: is a file", "give the directory")

    def test_no_tokenizer(self, untouched):
        (untouched / "model" / "tokenizer.json").unlink()
        refused(adapt(), "model: no tokenizer.json", "save_pretrained")

    @pytest.mark.parametrize(
        "damage", [b"", b"{", b"[]", b'{"model": {}}', b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}']
    )
    def test_damaged_tokenizer(self, untouched, damage):
        (untouched / "model" / "tokenizer.json").write_bytes(damage)
        refused(adapt(), "tokenizer.json")

    def test_replacement_without_a_tokenizer(self, untouched):
        refused(adapt("--replace", "notes", extend=()), "notes: no tokenizer.json")

    def test_pickles_only(self, untouched):
        (untouched / "model" / "model.safetensors").rename(untouched / "model" / "pytorch_model.bin")
        refused(adapt(), "weights only as pickle", "convert with", "save_pretrained")

    @pytest.mark.parametrize("keep", [0, 4, 100, -1])
    def test_truncated_shard(self, untouched, keep):
        path = untouched / "model" / "model.safetensors"
        path.write_bytes(path.read_bytes()[:keep])
        refused(adapt(), "model.safetensors")

    def test_config_of_another_model(self, untouched):
        config = json.loads((untouched / "model" / "config.json").read_text())
        (untouched / "model" / "config.json").write_text(json.dumps(config | {"vocab_size": 9}))
        refused(adapt(), "vocab_size 9", "304 rows")

    def test_no_config(self, untouched):
        (untouched / "model" / "config.json").unlink()
        refused(adapt(), "no config.json")

    def test_tokenizer_larger_than_the_table(self, untouched):
        spec = json.loads((untouched / "model" / "tokenizer.json").read_text())
        table = load_file(untouched / "model" / "model.safetensors")["model.embed_tokens.weight"]
        spec["model"]["vocab"]["quite new"] = len(table) + 9
        (untouched / "model" / "tokenizer.json").write_text(json.dumps(spec))
        refused(adapt(), f"{len(table) + 10} ids but the table only {len(table)} rows")


class TestOtherVerbs:
    def test_compare(self, untouched):
        arguments = ["compare", "model", "--corpus", "notes", "--out", "out", "--extend", "5"]
        refused(run(*arguments, "--methods", "mean,nope"), "unknown initializer 'nope'")
        refused(run(*arguments, "--methods", ","), "methods")
        refused(run("compare", "model", "--corpus", "absent", "--extend", "5"), "absent: no such file")
        refused(run("compare", "absent/model", "--corpus", "notes", "--extend", "5", "--methods", "mean"), "absent/model")

    def test_compare_writes_nothing_into_the_model(self, place):
        before = snapshot(place)
        for out in ("model", "model/comparison"):
            at_once(
                run("compare", "model", "--corpus", "notes", "--extend", "5", "--methods", "mean", "--out", out), "input", "choose another"
            )
        assert snapshot(place) == before

    def test_evaluate(self, untouched):
        at_once(run("evaluate", "model", "--text", "notes", "--device", "abacus"), "--device abacus")
        refused(run("evaluate", "model", "--text", "absent"), "absent: no such file")
        refused(run("evaluate", "absent/model", "--text", "notes"), "absent/model: no such directory")

    def test_undo(self, untouched):
        at_once(run("undo", "model"), "has no regraft.json", "not made by regraft")
        at_once(run("undo", "absent"), "absent: no such directory")

    def test_methods(self, untouched):
        at_once(run("methods", "--family", "nope"), "unknown family 'nope'", "initializer")
        listed = run("methods", "--json")
        assert "zip-tie" in {row["method"] for row in json.loads(listed.stdout)["methods"]}

    def test_dry_runs_find_the_same_mistakes(self, untouched):
        at_once(adapt("--dry-run", "--method", "nope"), "unknown initializer 'nope'")
        at_once(adapt("--dry-run", corpus="absent"), "absent: no such file")
        at_once(adapt("--dry-run", "--method", "mean", "--set", "c=1"), "mean has no parameter 'c'")
        at_once(adapt("--dry-run", extend=("--extend", "0")), "--extend 0")
        at_once(adapt("--dry-run", out="model"), "is the input itself")
        assert adapt("--dry-run").exit_code == 0


def test_our_own_faults_are_one_line_too(place, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr("regraft.vocab.adapt.transplant", broken)
    result = adapt()
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last == "regraft: internal error: RuntimeError: first line second line (run again with --debug for a traceback)"
    assert "Traceback" in adapt("--debug").stderr
    assert sorted(path.name for path in place.iterdir()) == ["model", "notes"]


def test_interrupted(place, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("regraft.vocab.adapt.full_graft", interrupted)
    result = adapt()
    assert result.exit_code == 130
    assert "nothing half-written" in result.stderr
    assert sorted(path.name for path in place.iterdir()) == ["model", "notes"]


def test_terminated(place, monkeypatch):
    """SIGTERM cleans up as Ctrl-C does, and is set back afterwards."""
    before = signal.getsignal(signal.SIGTERM)

    def killed(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr("regraft.checkpoint.files.take_over", killed)
    result = adapt()
    assert result.exit_code == 143
    assert "nothing half-written" in result.stderr
    assert sorted(path.name for path in place.iterdir()) == ["model", "notes"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_missing_extra_is_one_line(monkeypatch, tmp_path):
    def without(*_, **__):
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn.base")

    monkeypatch.setattr("regraft.align.words.diagnose.diagnose", without)
    (tmp_path / "r.yaml").write_text("verb: align diagnose\nsource: a.vec\ntarget: b.vec\n")
    for asked in (["align", "diagnose", "a.vec", "b.vec"], ["run", str(tmp_path / "r.yaml")]):
        done = CliRunner().invoke(app, asked)
        assert done.exit_code == 2
        assert "needs the package 'sklearn', which is not installed: pip install 'regraft[align]'" in " ".join(done.output.split())
