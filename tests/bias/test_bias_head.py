"""`regraft bias head` on a tiny encoder: what it writes opens in transformers and answers as the tuned network did."""

import json

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

from regraft.cli import app
from toys.tasks import folder  # noqa: F401

CLASSES = ["fever", "cough", "pain"]
WORDS = {"fever": "he was hot", "cough": "she had the", "pain": "it is not"}


@pytest.fixture
def given(tmp_path):
    lines = ["text,label"] + [f"{WORDS[name]} {name} {number},{name}" for number in range(24) for name in CLASSES]
    (tmp_path / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES), encoding="utf-8")
    return tmp_path


def invoke(*arguments):
    return CliRunner().invoke(app, ["bias", "head", *map(str, arguments)])


def test_a_head_is_swapped_and_written_with_stock_parts(folder, given) -> None:  # noqa: F811
    out = given / "out"
    options = [
        "--classes",
        given / "classes.txt",
        "--labels",
        given / "labels.csv",
        "--out",
        out,
        "--steps",
        30,
        "--lr",
        "3e-3",
        "--no-plain",
    ]
    done = invoke(folder, *options, "--json")
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert [model.config.id2label[i] for i in range(3)] == CLASSES
    with torch.no_grad():
        said = [model(**tokenizer(f"{WORDS[name]} {name} 99", return_tensors="pt")).logits.argmax().item() for name in CLASSES]
    assert figures["accuracy"] == 1
    assert said == [0, 1, 2]
    assert json.loads((out / "regraft.json").read_text())["method"]["name"] == "equiangular"
    assert (out / "equiangular.safetensors").is_file()


def test_bad_input(folder, given) -> None:  # noqa: F811
    options = ["--labels", given / "labels.csv", "--out", given / "out"]
    (given / "two.txt").write_text("fever\ncough\n", encoding="utf-8")
    done = invoke(folder, "--classes", given / "two.txt", *options)
    assert done.exit_code == 2
    assert "the label 'pain' is none of the classes" in done.output
    (given / "twice.txt").write_text("fever\nfever\n", encoding="utf-8")
    assert "'fever' stands there twice" in invoke(folder, "--classes", given / "twice.txt", *options).output
    CliRunner().invoke(app, ["bias", "bases", "--classes", "2", "--dim", "4", "--out", str(given / "b.safetensors")])
    done = invoke(folder, "--classes", given / "classes.txt", "--bases", given / "b.safetensors", *options)
    assert "2 vectors for 3 classes" in done.output
    assert not (given / "out").exists()
