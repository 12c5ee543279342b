"""Training: gain on pairs kept apart, a killed run that goes on, a saved model, refusals in one line."""

import json
import random

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from typer.testing import CliRunner

from datasets import Dataset
from regraft.cli import app
from regraft.errors import CorpusError, ParameterError
from regraft.evaluation.paired import Sample
from regraft.method import resolve
from regraft.text.examples import read_examples
from regraft.text.fitting import Budget
from regraft.text.train import train
from toys.models import texts


def scored(count, seed):
    """Pairs of two words that are alike if both or none of them begins with a cat."""
    begin = random.Random(seed)
    rows = []
    for a, b in zip(texts(count, seed), texts(count, seed + 100), strict=True):
        cats = [begin.random() < 0.5 for _ in range(2)]
        one, two = (f"{'cat' if cat else 'map'} {text.split()[0]}" for cat, text in zip(cats, (a, b), strict=True))
        rows.append({"sentence1": one, "sentence2": two, "score": 5.0 * (cats[0] == cats[1])})
    return rows


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for name, rows in {"train": scored(300, 1), "test": scored(150, 50)}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_the_command_trains_measures_and_writes_a_plain_model(pairs, bert_folder, tmp_path):
    out = tmp_path / "out"
    call = ["text", "train", str(bert_folder), "--pooling", "mean", "--examples", str(pairs / "train.jsonl"), "--out", str(out)]
    more = ["--tasks", str(pairs / "test.jsonl"), "--steps", "10", "--batch-size", "16", "--lr", "1e-3"]
    done = CliRunner().invoke(app, [*call, *more, "--json"])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout.splitlines()[-1])
    gain = figures["tasks"][0]
    assert gain["low"] <= gain["gain"] <= gain["high"]
    assert gain["before"] != gain["after"]
    assert gain["gain"] == pytest.approx(gain["after"] - gain["before"])
    made = json.loads((out / "regraft.json").read_text())
    assert made["verb"] == "text train"
    assert "Loss" in (out / "training.html").read_text("utf-8")
    model = SentenceTransformer(str(out), device="cpu")
    from regraft.text.tasks.files import open_any
    from regraft.text.tasks.task import encoder

    assert open_any(str(pairs / "test.jsonl")).measure(encoder(model)).value == pytest.approx(gain["after"], abs=1e-5)
    assert not list(tmp_path.glob(".out.training-*"))


@pytest.mark.parametrize(("after", "said"), [(0.1, True), (0.9, False)])
def test_a_model_that_got_worse_is_said(pairs, bert_folder, tmp_path, monkeypatch, after, said):
    found = iter([{"test": Sample.of(np.full(150, value))} for value in (0.5, after)])
    monkeypatch.setattr("regraft.text.train._measure", lambda model, tasks: next(found))
    examples, task = [str(pairs / "train.jsonl")], str(pairs / "test.jsonl")
    report, _ = train(bert_folder, examples, out=tmp_path / "o", encode_by="mean", budget=Budget(steps=1, batch_size=4), tasks=task)
    assert ("Surely worse than before on test: lower" in report.lead) == said


@pytest.mark.parametrize("name", ["steps", "batch-size", "lr"])
def test_a_budget_of_nothing_names_its_option(bert_folder, pairs, tmp_path, name):
    call = ["text", "train", str(bert_folder), "--examples", str(pairs / "train.jsonl"), "--out", str(tmp_path / "o"), f"--{name}", "0"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 2
    assert [other for other in ("--steps", "--batch-size", "--lr") if other in done.output] == [f"--{name}"]


def test_a_killed_training_goes_on_to_the_same_model(pairs, bert_folder, tmp_path):
    class KilledError(Exception):
        pass

    budget = Budget(steps=12, batch_size=8, lr=1e-3, save_every=5)
    options = {"examples": [str(pairs / "train.jsonl")], "encode_by": "mean", "tasks": "", "budget": budget}
    train(bert_folder, out=tmp_path / "whole", **options)
    with pytest.MonkeyPatch.context() as patch:

        def stop(self, args, state, control, **kwargs):
            if state.global_step == 8:
                raise KilledError

        patch.setattr("regraft.text.fitting._Watch.on_step_end", stop)
        with pytest.raises(KilledError):
            train(bert_folder, out=tmp_path / "cut", **options)
    assert not (tmp_path / "cut").exists()
    train(bert_folder, out=tmp_path / "cut", **options)
    rows = [SentenceTransformer(str(tmp_path / name), device="cpu").encode(["the cat sat"]) for name in ("whole", "cut")]
    np.testing.assert_allclose(*rows, atol=1e-6)


def test_pairs_learn_by_the_softmax_over_their_batch(bert_folder):

    rows = [{"anchor": a, "positive": a + " again"} for a in texts(64, 7)]
    model = resolve("encoder", "mean").build(bert_folder)
    budget = Budget(steps=40, batch_size=16, lr=1e-2)
    resolve("tuner", "contrastive").train(model, Dataset.from_list(rows), budget)
    assert budget.curve[-1][1] < budget.curve[0][1] * 0.8


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"a": 1}], "this method learns from sentence1, sentence2, score or anchor, positive"),
        ([{"sentence1": "a", "sentence2": "b", "score": "x"}], "example 1: score 'x' is no number"),
        ([{"anchor": "a", "positive": " "}], "example 1: positive is empty"),
        ([], "no examples"),
    ],
)
def test_examples_that_teach_nothing_are_one_line(rows, said, tmp_path):
    (tmp_path / "e.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(CorpusError, match=said):
        read_examples([str(tmp_path / "e.jsonl")], ("scored", "pairs"))


def test_an_unknown_name_of_examples():
    with pytest.raises(ParameterError, match="nothing: no such file; examples by name are sts, sick, trec"):
        read_examples(["nothing"], ("scored",))
