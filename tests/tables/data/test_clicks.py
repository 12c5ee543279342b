"""Ids counted on training rows alone, splits, numbers; and rows that nothing can be learned from, in one line."""

from collections import Counter

import numpy as np
import pytest
import torch

from regraft.errors import InputError, ParameterError
from regraft.tables.data import clicks as job
from regraft.tables.data import readers
from regraft.tables.data.clicks import TEST, TRAIN, VALIDATION, Clicks, Meaning, prepare
from toys.clicks import drawn, write_csv

MEANING = Meaning(label="click", drop=("day",))


@pytest.fixture
def csv(tmp_path):
    return write_csv(tmp_path / "a.csv")


def meant(path, tmp_path, **more):
    return prepare(path, Meaning(**{"label": "click", "drop": ("day",), **more}), tmp_path / "data")


def test_rows_come_back_in_their_splits(csv, tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "BLOCK", 2000)
    found = meant(csv, tmp_path)
    site, _, price, click = drawn(600)
    assert (found.fields, found.numeric, sum(found.rows)) == (("site", "app"), ("price",), 600)
    assert [round(rows / 60) for rows in found.rows] == [8, 1, 1]
    numbers = np.sign(found.numbers[:, 0]) * np.expm1(np.abs(found.numbers[:, 0]))
    words = sorted({f"s{n}" for n in site})
    assert found.sizes[0] == len(words) + 1
    decoded = zip((words[i - 1] for i in found.ids[:, 0]), np.round(numbers.astype(float), 2), found.labels, strict=True)
    given = zip((f"s{n}" for n in site), np.round(price, 2), click, strict=True)
    assert Counter((s, round(float(p), 1), int(c)) for s, p, c in decoded) == Counter((s, round(float(p), 1), int(c)) for s, p, c in given)


def test_ids_are_counted_on_training_rows(tmp_path):
    lines = [f"s{day % 20},{day % 3},{day},{day % 2}" for day in range(90)] + [f"new{day},1,{90 + day},{day % 2}" for day in range(10)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["site,app,day,click", *lines]), "utf-8")
    found = prepare(path, Meaning(label="click", time="day"), tmp_path / "data")
    assert found.rows == (80, 10, 10)
    assert found.sizes == (21, 4)
    test = found.split(TEST)
    ids, numbers, labels = test.batch(slice(None))
    assert ids[:, 0].tolist() == [0] * 10  # nobody has seen these
    assert numbers.shape == (10, 0)
    assert labels.tolist() == [0.0, 1.0] * 5
    assert [int(one.sum()) for one in found.counts] == [80, 80]
    assert torch.equal(found.counts[0], torch.bincount(torch.from_numpy(found.ids[:80, 0].astype(np.int64)), minlength=21))


def test_seldom_values_share_the_unknown_id(csv, tmp_path):
    found = meant(csv, tmp_path, least=9)
    counts = found.counts[0]
    assert counts[1:].min() >= 9
    assert counts[0] > 0
    assert int(counts.sum()) == found.rows[0]


def test_a_file_of_test_rows(csv, tmp_path):
    test = write_csv(tmp_path / "test.csv", 80, seed=1)
    found = prepare(csv, MEANING, tmp_path / "data", test=test)
    assert found.rows[TEST] == 80
    assert found.rows[VALIDATION] == pytest.approx(60, abs=25)
    assert found.split(TEST).batch(slice(None))[2].tolist() == drawn(80, 1)[3].tolist()


def test_batches_take_rows_and_slices(csv, tmp_path):
    train = meant(csv, tmp_path).split(TRAIN)
    ids, numbers, labels = train.batch(np.array([3, 0]))
    again = train.batch(slice(0, 4))
    assert torch.equal(ids, again[0][[3, 0]])
    assert (ids.dtype, numbers.dtype, labels.dtype) == (torch.int32, torch.float32, torch.float32)
    assert len(train.batch(slice(len(train) - 2, len(train) + 5))[2]) == 2


def test_what_was_prepared_is_taken_again(csv, tmp_path, monkeypatch):
    first = meant(csv, tmp_path)
    monkeypatch.setattr(job.Plan, "write", lambda *_: pytest.fail("written again"))
    again = meant(csv, tmp_path)
    assert np.array_equal(first.ids, again.ids)
    assert Clicks.open(tmp_path / "data").sizes == first.sizes
    monkeypatch.undo()
    assert meant(csv, tmp_path, seed=1).digest != first.digest


def test_numbers_of_criteo_are_clipped_and_missing_ones_are_0(tmp_path):
    draw = np.random.default_rng(0)
    lines = [
        "\t".join([str(i % 2), "-2", "", "6", *["1"] * 10, *(f"{v:08x}" if v else "" for v in draw.integers(0, 4, 26))]) for i in range(200)
    ]
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n", "utf-8")
    found = prepare(tmp_path / "train.txt", Meaning(), tmp_path / "data")
    assert found.numbers[0, :3].tolist() == pytest.approx([0, 0, np.log(7)])
    assert set(found.sizes) == {5}  # three values, what is missing, and the unknown


def test_columns_are_told_apart(csv, tmp_path):
    assert meant(csv, tmp_path, drop=()).numeric == ("price", "day")
    assert meant(csv, tmp_path, drop=(), categorical=("day",)).fields == ("site", "app", "day")
    text = csv.read_text("utf-8").replace("day,click", "visit_id,click")
    csv.write_text(text, "utf-8")
    assert meant(csv, tmp_path, drop=()).fields == ("site", "app", "visit_id")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"label": None}, "name the column of clicks with --label; it has site"),
        ({"label": "clik"}, "--label clik: .* no such column"),
        ({"drop": ("days",)}, "--drop days"),
        ({"numeric": ("site",)}, "column site holds what is no number"),
        ({"label": "app"}, "label app holds .*, not only 0 and 1"),
        ({"label": "app", "positive": 99.0}, "all labels of the train split are 0"),
        ({"time": "site"}, "--time site: holds neither numbers nor dates"),
        ({"drop": ("site", "app")}, "no column is left that is a category"),
    ],
)
def test_meanings_that_do_not_fit(csv, tmp_path, more, said):
    with pytest.raises((InputError, ParameterError), match=said):
        meant(csv, tmp_path, **more)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["a,1,", "b,2,1"], "a label in column click is missing or NaN"),
        (["a,1,nan", "b,2,1"], "a label in column click is missing or NaN"),
        (["a,1,0", "b,2,0"], "all labels of the train split are 0"),
        (["a,1,0", "a,2,1"], "site has one value in the training rows"),
        (["a,1,0", "b,inf,1"], "column price holds infinity"),
        (["a,1,0", "b,2"], "after line"),
        ([], "has no rows"),
    ],
)
def test_rows_that_nothing_is_learned_from(tmp_path, rows, said):
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["site,price,click", *rows * 40]) + "\n", "utf-8")
    with pytest.raises(InputError, match=said):
        prepare(path, Meaning(label="click", numeric=("price",)), tmp_path / "data")


def test_times_may_be_dates(tmp_path):
    lines = [f"s{n % 7},2024-0{1 + n // 20}-{1 + n % 20:02d},{n % 2}" for n in range(100)]
    (tmp_path / "a.csv").write_text("\n".join(["site,when,click", *lines]), "utf-8")
    assert prepare(tmp_path / "a.csv", Meaning(label="click", time="when"), tmp_path / "data").rows == (80, 10, 10)
