"""Priors on episodes: they learn to tell classes apart that they never saw, beside the prototypical network."""

import zipfile

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from regraft.bias.compare import compare
from regraft.bias.prior import Plan
from regraft.bias.tasks.omniglot import read
from regraft.bias.tasks.task import Task
from regraft.method import resolve


@pytest.fixture(scope="module")
def task():
    """Digits 0 to 5 to learn from, 6 to 9 held out."""
    X, y = load_digits(return_X_y=True)
    x, labels = torch.tensor(X / 16, dtype=torch.float32).view(-1, 1, 8, 8), torch.tensor(y)
    old = labels < 6
    episode = torch.tensor([4, 1, 5, 60])
    return Task("digits-episodes", "episodes", x[old], labels[old], x[~old], labels[~old], 6, {"episode": episode})


def test_all_learn_what_classes_have_in_common(task):
    small = {"way": 5, "channels": 8}
    names = ["prototypical-network", "susana-losses", "episode-triplet", "class-pretraining"]
    done = compare(task, methods=names, settings=dict.fromkeys(names, small), plan=Plan(steps=60), seeds=1)
    rows = {row["method"]: row for row in done.rows}
    assert all(row["error"] is None for row in rows.values())
    assert rows.keys() == set(names)
    assert all(row["accuracy"] > 0.4 for row in rows.values()), rows  # chance is 0.25
    assert rows["susana-losses"]["parameters"] == rows["prototypical-network"]["parameters"]


def test_a_residual_encoder_and_full_icnn(task):
    method = resolve("prior", "susana-losses", {"terms": "fullicnn", "encoder": "resnet-12", "channels": 4, "way": 5})
    learned = method.learn(task, Plan(steps=4))
    assert learned.curve[-1][1] > 0
    assert learned.scores.shape == (60,)
    assert {p.grad is not None and bool(p.grad.abs().sum() > 0) for p in learned.model.parameters()} == {True}


def test_drawings_are_read_by_alphabet(tmp_path):
    path = tmp_path / "small.zip"
    with zipfile.ZipFile(path, "w") as file:
        for place, ink in (("Greek/character01/a.png", 0), ("Tagalog/character01/b.png", 0), ("Tagalog/character02/c.png", 255)):
            Image.new("1", (105, 105), ink).save(tmp_path / "one.png")
            file.write(tmp_path / "one.png", f"images_background_small2/{place}")
    x, y, names = read(path, 16, {"Greek"})
    assert names == ["Tagalog/character01", "Tagalog/character02"]
    assert x.shape == (2, 1, 16, 16)
    assert x.mean((1, 2, 3)).tolist() == [1, 0]  # ink is 1
    assert y.tolist() == [0, 1]
