"""The untouched model trained alike: what the new vocabulary gave, apart from what the training gave."""

import json

import pytest
from typer.testing import CliRunner

from regraft.cli import app
from regraft.corpus import Corpus
from regraft.evaluation import score_text
from regraft.language.loading import load_both
from regraft.training import SHORT, Training, train
from regraft.vocab.adapt import adapt
from regraft.vocab.change.request import TokenizerRequest
from regraft.vocab.job import Job
from toys import models
from toys.directory import save_decoder


@pytest.fixture
def place(tmp_path):
    save_decoder(tmp_path / "model")
    (tmp_path / "notes.txt").write_text("\n\n".join(models.texts(60)), "utf-8")
    return tmp_path


def test_it_is_the_untouched_model_after_the_same_steps(place):
    training = Training(steps=3, **SHORT | {"block": 16, "parameters": "2x2", "lr": 0.01})
    done = adapt(place / "model", corpus=[place / "notes.txt"], out=place / "out", extend=5, training=training, control=True, held_out=0.3)
    job = Job.prepare(place / "model", Corpus.open([place / "notes.txt"], held_out=0.3), TokenizerRequest(extend=5))
    model, tokenizer = load_both(job.checkpoint, job.tokenizer, "auto", "cpu")
    rows = model.get_input_embeddings().weight
    for parameter in model.parameters():  # a model of two layers: all but the table is in its outer layers, norm and head
        parameter.requires_grad_(parameter is not rows)
    alike = Training(steps=3, **SHORT | {"block": 16, "parameters": "marked", "lr": 0.01, "freeze_old_rows": False})
    train(model, tokenizer, list(job.corpus.documents("train")), alike)
    found = done.metrics["control"]["domain"]["bits_per_byte"]
    assert found == pytest.approx(score_text(model, tokenizer, job.domain).bits_per_byte, abs=1e-5)
    assert [stage.name for stage in done.stages] == ["untouched", "grafted", "trained"]
    assert f"old vocabulary it needs {found:.3f}" in done.report.lead
    assert "untouched, trained alike" in json.dumps(done.report.to_json())


def test_the_grafted_model_is_the_same_with_and_without_it(place):
    given = ["adapt", place / "model", "--corpus", place / "notes.txt", "--extend", 5, "--train", 2, "--train-set", "block=16", "--json"]
    for name, more in (("with", ["--control"]), ("without", [])):
        done = CliRunner().invoke(app, [str(one) for one in [*given, "--out", place / name, *more]])
        assert done.exit_code == 0, done.output
    first, second = (place / name / "model.safetensors" for name in ("with", "without"))
    assert first.read_bytes() == second.read_bytes()


def test_rows_alone_have_nothing_beside_them(place):
    given = ["adapt", place / "model", "--corpus", place / "notes.txt", "--extend", 5, "--control", "--train", 2, "--out", place / "out"]
    done = CliRunner().invoke(app, [str(one) for one in [*given, "--train-set", "parameters=rows"]])
    assert done.exit_code == 2
    assert "the untouched model has none" in " ".join(done.output.split())


def test_without_training_there_is_nothing_to_set_beside(place):
    given = ["adapt", place / "model", "--corpus", place / "notes.txt", "--extend", 5, "--control", "--out", place / "out"]
    done = CliRunner().invoke(app, [str(one) for one in given])
    assert done.exit_code == 2
    assert "--control" in done.output
    assert not (place / "out").exists()
