"""`regraft probe bias` from a file to a page, again from what it kept, and to one line of refusal; the guide's commands."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import RidgeCV
from typer.testing import CliRunner

from regraft.checkpoint import Checkpoint
from regraft.cli import app
from regraft.datasets.models import encoder_folder
from regraft.errors import CorpusError
from regraft.probe.probes.inductive_bias import InductiveBias
from regraft.probe.probes.inductive_bias.job.describe import describe
from regraft.probe.probes.inductive_bias.job.reading import Source, read_task
from regraft.probe.spectrum.sources.hidden import hidden_states, text_rows
from toys.guide_runner import run_guide

GUIDE = Path(__file__).parents[3] / "docs/guides/probe-bias.md"


def ask(*given):
    found = CliRunner().invoke(app, ["probe", "bias", *map(str, given)])
    return found.exit_code, found.stdout, " ".join(found.stderr.split())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("tasks"), np.random.default_rng(0)
    X = rng.normal(size=(80, 4)) * [1, 10, 100, 1]
    y = np.where(X[:, 0] + X[:, 1] / 10 > 0, "yes", "no")
    lines = [",".join([*(f"{one:.6f}" for one in row), label]) for row, label in zip(X, y, strict=True)]
    (folder / "t.csv").write_text("\n".join(["a,b,c,d,kind", *lines]))
    X = np.round(X, 6)
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", y)
    (folder / "y.txt").write_text("\n".join(y))
    np.savez(folder / "t.npz", X=X, y=y)
    pq.write_table(pa.table({**{name: X[:, i] for i, name in enumerate("abcd")}, "kind": y}), folder / "t.parquet")
    pq.write_table(pa.table({"v": list(X), "kind": y}), folder / "lists.parquet")
    return folder


def test_every_kind_of_file_is_the_same_task(files):
    plain = read_task(Source(task=files / "t.csv", scale="none"))
    assert (plain.n, len(plain.X_test), plain.classes) == (60, 20, ("no", "yes"))
    for source in (
        Source(task=files / "X.npy", labels=files / "y.npy", scale="none"),
        Source(task=files / "X.npy", labels=files / "y.txt", scale="none"),
        Source(task=files / "t.npz", scale="none"),
        Source(task=files / "t.parquet", scale="none"),
        Source(task=files / "t.parquet", target="kind", scale="none"),
        Source(task=files / "lists.parquet", scale="none"),
    ):
        other = read_task(source)
        for name in ("X_train", "Y_train", "X_test", "Y_test"):
            np.testing.assert_array_equal(getattr(other, name), getattr(plain, name))
    assert read_task(Source(task=files / "t.csv")).X_train.std(0) == pytest.approx(np.ones(4))
    assert len(read_task(Source(task=files / "t.csv", test=7, limit=40)).X_test) == 7


def test_numbers_are_scaled_and_few_whole_ones_are_classes(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    for name, y, classes in (("real", 50 + 9 * X[:, 0], None), ("whole", rng.integers(1, 4, 60), ("1", "2", "3")),
                             ("many", np.arange(60) * 3, None)):  # fmt: skip
        np.savez(tmp_path / f"{name}.npz", X=X, y=y)
        task = read_task(Source(task=tmp_path / f"{name}.npz"))
        assert task.classes == classes
        if classes is None:
            assert (task.Y_train.mean(), task.Y_train.std()) == pytest.approx((0, 1), abs=1e-9)
            assert "standard deviations" in task.notes[-1]


def test_the_verb_from_a_table_to_a_page_and_again(files, tmp_path):
    out = tmp_path / "out"
    given = ["--task", files / "t.csv", "--model", "ridge", "--model", "mlp:8", "--epsilon", 0.05, "--space", "rbf", "--space", "mlp:4"]
    given += ["--samples", 30, "--epochs", 3, "--draws", 5, "--sigma", 1, "--out", out]
    code, printed, said = ask(*given, "--json")
    assert code == 0, said
    figures = json.loads(printed)
    assert {path.name for path in out.iterdir()} == {"report.html", "figures.json", "regraft.json", "networks.jsonl", "rows.jsonl"}
    assert json.loads((out / "figures.json").read_text()) == figures
    made = json.loads((out / "regraft.json").read_text())
    assert (made["verb"], made["method"]["name"], made["seed"]) == ("probe", "inductive-bias", 0)
    by = {(one["reached_by"], one["space"]): one for one in figures["bias"]}
    assert len(by) == 6
    task = read_task(Source(task=files / "t.csv"))
    ridge = RidgeCV(np.logspace(-4, 4, 17)).fit(task.X_train, task.Y_train)
    assert by["ridge", "rbf"]["epsilon"] == pytest.approx(np.square(ridge.predict(task.X_test) - task.Y_test).mean())
    same = InductiveBias(draws=0).measure(task.X_train, task.Y_train, task.X_test, task.Y_test, epsilon=0.05)
    assert by["0.05", "rbf"]["nats"] == pytest.approx(same.nats)
    assert by["0.05", "mlp:4"]["samples"] == 30
    assert by["0.05", "rbf"]["tail"] == "exact"
    assert by["0.05", "mlp:4"]["tail"] == "paper"
    assert len((out / "networks.jsonl").read_text().splitlines()) == 33  # the space's, and the model's three
    page = (out / "report.html").read_text()
    for title in ("Hypothesis spaces", "Bias by the error to reach", "Bias by training rows", "Where these errors lie"):
        assert title in page
    rows = figures["by_training_rows"]["curves"]["0.05"]
    assert [n for n, _ in rows] == [4, 8, 15, 30, 60]
    assert rows[0][1] > rows[-1][1] > 0
    assert rows[-1][1] == pytest.approx(same.bits, rel=0.01)
    kept = (out / "networks.jsonl").read_text()
    code, printed, said = ask(*given, "--json")  # goes on from what is there
    assert code == 0, said
    assert json.loads(printed)["bias"] == figures["bias"]
    assert (out / "networks.jsonl").read_text() == kept
    (out / "mine.txt").write_text("x")
    code, _, said = ask(*given)
    assert code == 2
    assert "holds other files, such as mine.txt" in said


def test_it_prints_what_the_figure_depends_on(files):
    code, printed, said = ask("--task", files / "t.csv", "--epsilon", 0.05, "--sigma", 2, "--draws", 20)
    assert code == 0, said
    for words in ("of bias in rbf (sigma 2)", "extrapolated", "E[e]", "least", "mean predictor", "jitter", "0.05"):
        assert words in printed, words


def test_one_model_that_fails_leaves_the_others(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    np.savez(tmp_path / "t.npz", X=X, y=X[:, 0] + rng.normal(size=60))
    source = Source(task=tmp_path / "t.npz")
    report, figures = describe(source, InductiveBias(sigma="median", draws=10), models=["logistic", "ridge"])
    assert {one["reached_by"] for one in figures["bias"]} == {"ridge"}
    (failed,) = [section for section in report.sections if section.title == "Failed"]
    assert "numbers to predict, not classes" in failed.rows[0]["error"]


def test_what_the_verb_refuses_leaves_nothing(files, tmp_path):
    def write(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    np.save(tmp_path / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    (tmp_path / "cut.npz").write_bytes((files / "t.npz").read_bytes()[:100])
    (tmp_path / "binary.csv").write_bytes(bytes(range(128, 256)) * 4)
    np.savez(tmp_path / "named.npz", rows=np.ones((4, 2)))
    table = files / "t.csv"
    cases = [
        (["--task", tmp_path / "gone.csv"], "no such file"),
        (["--task", tmp_path], "no such file"),
        (["--task", table, "--target", "colour"], "has no column 'colour': it has a, b, c, d, kind"),
        (["--task", table, "--target", "a"], "column 'kind' holds"),
        (["--task", write("empty.csv", "")], "0 lines"),
        (["--task", write("ragged.csv", "a,b\n1,2\n1\n")], "row 3 has 1 fields"),
        (["--task", write("lone.csv", "y\n1\n2\n3\n4\n5\n6\n7\n8\n")], "nothing to learn from"),
        (["--task", write("hole.csv", "a,y\n1,x\n,z\n3,x\n4,z\n5,x\n6,z\n")], "empty or NaN in row 3"),
        (["--task", write("one.csv", "a,y\n" + "".join(f"{i},same\n" for i in range(9)))], "one class"),
        (["--task", write("flat.csv", "a,y\n" + "".join(f"7,{'xz'[i % 2]}\n" for i in range(9)))], "all training rows are equal"),
        (["--task", write("few.csv", "a,y\n1,x\n2,z\n")], "two to learn from"),
        (["--task", write("t.txt", "a,y\n1,x\n")], "not a kind of file"),
        (["--task", tmp_path / "binary.csv"], "cannot be read as a table"),
        (["--task", tmp_path / "cut.npz"], "cannot be read"),
        (["--task", tmp_path / "named.npz"], "has no array 'X': it has rows"),
        (["--task", files / "X.npy"], "--labels"),
        (["--task", files / "X.npy", "--labels", tmp_path / "objects.npy"], "cannot be read"),
        (["--task", table, "--epsilon", "0"], "above 0"),
        (["--task", table, "--epsilon", "nan"], "above 0"),
        (["--task", table, "--model", "svm"], "--model svm: unknown: choose from mlp, cnn, ridge"),
        (["--task", table, "--model", "knn:0"], "at least 1"),
        (["--task", table, "--space", "cubic"], "--space cubic: unknown"),
        (["--task", table, "--sigma", "wide"], "--sigma wide"),
        (["--task", table, "--sigma", "-1"], "sigma=-1"),
        (["--task", table, "--tail", "fat"], "tail='fat'"),
        (["--task", table, "--test", "0"], "at least one to test on"),
        (["--task", table, "--kind", "ordinal"], "--kind ordinal: choose one of auto, classes, numbers"),
        (["--task", table, "--text", "a"], "--text and --encoder go together"),
        (["--task", table, "--kind", "numbers"], "not numbers"),
    ]
    for given, says in cases:
        code, printed, said = ask(*given, "--out", tmp_path / "out")
        assert (code, printed) == (2, ""), (given, said)
        assert says in said, (says, said)
        assert not (tmp_path / "out" / "report.html").exists()


def test_a_column_of_text_is_read_by_an_encoder(tmp_path):
    texts = ["a red apple", "the loud engine of a truck", "ripe pears", "brakes and tyres", "sweet cherries", "a van", "plums", "gear box"]
    lines = [f'"{text}",{("fruit", "car")[number % 2]}' for number, text in enumerate(texts)]
    (tmp_path / "t.csv").write_text("\n".join(["words,about", *lines]))
    task = read_task(Source(task=tmp_path / "t.csv", text="words", encoder=str(encoder_folder()), test=2))
    assert task.X_train.shape == (6, 384)
    (tmp_path / "t.txt").write_text("\n".join(texts))
    checkpoint = Checkpoint.open(encoder_folder())
    rows = text_rows(checkpoint, texts)
    np.testing.assert_allclose(rows, hidden_states(checkpoint, [tmp_path / "t.txt"], layer=-1), atol=1e-5)
    order = np.random.default_rng(0).permutation(8)
    np.testing.assert_allclose(task.X_train, rows[order[:6]], atol=1e-5)
    with pytest.raises(CorpusError, match="text 1 is empty"):
        text_rows(checkpoint, ["a", " "])


def test_the_commands_of_the_guide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_guide(GUIDE) == 5
    figures = json.loads(Path("wine-bias/figures.json").read_text())
    stated = dict(re.findall(r"^\| (\S+) \| [\d.]+ \| rbf, sigma 5.02 \| (\d+) \|", GUIDE.read_text("utf-8"), flags=re.MULTILINE))
    assert {one["reached_by"]: one["bits"] for one in figures["bias"]} == pytest.approx(
        {name: float(bits) for name, bits in stated.items()}, abs=1
    )
