"""`regraft compare --task`: from files to a table, JSON and a page; and every way to get it wrong."""

import importlib
import json

import pytest
from typer.testing import CliRunner

from regraft.cli.app import app
from regraft.recipe import load_recipe, run_recipe
from regraft.vocab.tasks import compare_on_task, open_task
from regraft.vocab.tasks.compare import lead, vocabulary_row
from regraft.vocab.tasks.learning_curve import Plan
from toys.ontologies import DRUGS, SIGNS
from toys.ontologies import minilm as minilm
from toys.tasks import sentences, texts

importlib.import_module("regraft.cli.compare")  # registers the verb


def run(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    (folder / "drugs.txt").write_text("\n".join(DRUGS), encoding="utf-8")
    (folder / "signs.txt").write_text("\n".join(SIGNS), encoding="utf-8")
    for side, seed in (("train", 0), ("test", 1)):
        lines = ["\n".join(f"{word}\t{tag}" for word, tag in zip(s.words, s.tags, strict=True)) for s in sentences(40, seed)]
        (folder / f"{side}.conll").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
        rows = [json.dumps({"text": example.text, "labels": list(example.labels)}) for example in texts(40, "coding", seed)]
        (folder / f"{side}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return folder


def ontologies(files):
    return [f"--ontology=drugs={files / 'drugs.txt'}", f"--ontology=signs={files / 'signs.txt'}", "--set=h0_count=2"]


def test_tagging_a_users_files_with_a_real_encoder(minilm, files, tmp_path):
    out = tmp_path / "out"
    labels = ["--task", "tagging", "--labels", files / "train.conll", "--test-labels", files / "test.conll"]
    budget = ["--train", "12", "--train-set", "batch_size=8", "--train-set", "lr=1e-3", "--shares", "100", "--seeds", "1"]
    done = run(minilm, *labels, *ontologies(files), *budget, "--methods", "added-words,k_tokeniser", "--out", out, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout[done.stdout.index('{"') :])
    rows = {(row["method"], row["share"]): row for row in found["rows"]}
    assert list(rows) == [(name, 1.0) for name in ("base", "added-words", "k-tokeniser")]
    assert rows["base", 1.0]["f1"] > 0.5
    assert rows["base", 1.0]["difference"] is None
    for name in ("added-words", "k-tokeniser"):
        row = rows[name, 1.0]
        assert row["difference"] == pytest.approx(row["f1"] - rows["base", 1.0]["f1"])
        assert row["interval"][0] <= row["difference"] <= row["interval"][1]
    base, words, pieces = found["vocabularies"]
    assert words["tokens per word"] < pieces["tokens per word"] < base["tokens per word"]
    assert json.loads((out / "comparison.json").read_text())["rows"] == found["rows"]
    page = (out / "comparison.html").read_text()
    assert "Learning curves" in page
    assert "k-tokeniser" in page


def test_other_kinds_read_users_files_too(folder, files):
    for task, label_column in (("coding", None), ("classification", "kind")):
        data = open_task(task, files / "train.jsonl") if task == "coding" else open_task(task, with_kinds(files), label_column=label_column)
        sources = [f"drugs={files / 'drugs.txt'}", f"signs={files / 'signs.txt'}"]
        plan = Plan(shares=(1.0,), seeds=1)
        plan = Plan(shares=(1.0,), seeds=1, tuning=type(plan.tuning)(steps=3, batch_size=4))
        done = compare_on_task(folder, data, ontology=sources, methods=["k-tokeniser"], plan=plan, settings={"h0_count": 2})
        assert [row["method"] for row in done.rows] == ["base", "k-tokeniser"]
        assert done.vocabularies[1]["texts changed"] > 0
        assert "base" in lead(done.points, plan) or "No vocabulary" in lead(done.points, plan)


def with_kinds(files):
    path = files / "kinds.csv"
    path.write_text("text,kind\n" + "\n".join(f"{e.text},{e.labels[0]}" for e in texts(60, "classification", 2)), encoding="utf-8")
    return path


def test_share_of_new_tokens_is_counted(subject, data):
    row = vocabulary_row(subject.arm("k-tokeniser"), data["tagging"])
    assert 0 < row["new among tokens"] < 1
    assert row["sentences rolled back"] == 0
    assert vocabulary_row(subject.arm("base"), data["tagging"])["texts changed"] == 0


def test_dry_run_counts_runs_and_steps(folder, files):
    labels = ["--task", "coding", "--labels", files / "train.jsonl", "--shares", "50,100"]
    done = run(folder, *labels, *ontologies(files), "--train", "2epochs", "--train-set", "batch_size=4", "--dry-run", "--json")
    found = json.loads(done.stdout)
    assert found["runs"] == 5 * 2 * 3
    train = found["training examples"]
    assert train + found["test examples"] == len(texts(40, "coding", 0))
    assert found["steps"] == 5 * 3 * (round(2 * int(0.5 * train + 0.5) / 4) + round(2 * train / 4))


def test_the_verb_of_its_own_does_what_the_old_spelling_does(folder, files):
    asked = ["--task", "coding", "--labels", files / "train.jsonl", "--methods", "k-tokeniser", *ontologies(files), "--dry-run", "--json"]
    old, new = (CliRunner().invoke(app, [verb, str(folder), *map(str, asked)]) for verb in ("compare", "compare-tasks"))
    assert json.loads(new.stdout) == json.loads(old.stdout)
    assert json.loads(new.stdout)["methods"] == ["base", "k-tokeniser"]
    recipe = {"verb": "compare-tasks", "model": str(folder), "task": "coding", "labels": str(files / "train.jsonl")}
    recipe |= {"methods": ["k-tokeniser"], "ontology": [o.removeprefix("--ontology=") for o in ontologies(files)[:2]]}
    path = files / "recipe.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    assert run_recipe(load_recipe(path), dry_run=True, json_output=True) == json.loads(old.stdout)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "parsing"], "--task parsing: unknown; choose tagging"),
        (["--task", "tagging"], "needs labelled examples"),
        (["--task", "tagging", "--labels", "absent.conll"], "absent.conll: no such file"),
        (["--task", "tagging", "--labels", "EMPTY.conll"], "no examples in it"),
        (["--task", "tagging", "--labels", "OUTSIDE.conll", "--test-labels", "OUTSIDE.conll"], "no labels among"),
        (["--task", "tagging", "--labels", "train.conll", "--test-labels", "OTHER.conll"], "do the two files belong together"),
        (["--task", "tagging", "--labels", "train.conll", "--shares", "1"], "1 % of"),
        (["--task", "tagging", "--labels", "train.conll", "--shares", "100,50"], "--shares 100,50"),
        (["--task", "tagging", "--labels", "train.conll", "--shares", "all"], "--shares all"),
        (["--task", "tagging", "--labels", "train.conll", "--methods", "base"], "nothing to compare"),
        (["--task", "tagging", "--labels", "train.conll", "--methods", "k-tok"], "did you mean k-tokeniser"),
        (["--task", "tagging", "--labels", "train.conll", "--train", "2min"], "a number of steps (200) or epochs"),
        (["--task", "tagging", "--labels", "train.conll", "--train", "0"], "a number of steps"),
        (["--task", "tagging", "--labels", "train.conll", "--train-set", "lr=0"], "lr=0 is not accepted"),
        (["--task", "tagging", "--labels", "train.conll", "--held-out", "1"], "--held-out 1"),
        (["--task", "tagging", "--labels", "train.conll", "--extend", "5"], "--extend does not go with --task"),
        (["--task", "tagging", "--labels", "train.conll", "--shares", "100", "--dtype", "float16"], "fine-tuned in float32"),
        (["--task", "coding", "--labels", "train.conll"], "coding reads .csv"),
        (["--labels", "train.conll", "--corpus", "train.conll"], "--labels goes with --task"),
        (["--extend", "5"], "give --corpus PATH"),
    ],
)
def test_bad_input_is_one_line(folder, files, monkeypatch, arguments, said):
    monkeypatch.chdir(files)
    (files / "EMPTY.conll").write_text("\n")
    (files / "OUTSIDE.conll").write_text("a O\n\nb O\n")
    (files / "OTHER.conll").write_text("a B-Gene\n")
    done = run(folder, *arguments, *(ontologies(files) if "--task" in arguments else []))
    assert done.exit_code == 2, done.output
    line = next(line for line in done.output.splitlines() if line.startswith("regraft: "))
    assert said in line
    assert not (files / "runs.jsonl").exists()


def test_without_an_ontology_or_an_encoder_it_says_so(folder, files, tmp_path):
    labels = ["--task", "tagging", "--labels", files / "train.conll", "--shares", "100"]
    assert "--task needs --ontology" in run(folder, *labels).output
    from toys.models import llama, tokenizer

    llama().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    for more in ([], ["--dry-run"]):
        done = run(tmp_path, *labels, *ontologies(files), *more)
        assert done.exit_code == 2
        assert "is a decoder: give a BERT-type model" in done.output
