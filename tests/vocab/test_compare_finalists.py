"""A comparison trains the best starts, takes their rows up again, and says how sure its order is."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from regraft.cli.compare import finalists_from, text_training
from regraft.comparison import Outcome, rank, set_behind
from regraft.comparison.ranking import best as best_of
from regraft.errors import ParameterError
from regraft.evaluation.paired import Sample
from regraft.method import resolve
from regraft.training import SHORT, Training
from regraft.vocab import bench as module
from regraft.vocab.bench import METRIC
from regraft.vocab.compare import DEFAULT_TRAINING, compare
from regraft.vocab.report.compare_report import comparison_lead
from regraft.vocab.transplant.transplant import transplant
from toys.directory import domain_texts, save_decoder

METHODS = ("mean", "merge", "normal", "constituent-mean")
TRAINING = Training(steps=2, block=16, batch_size=8, accumulate=1, parameters="2x2", lr=0.01)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("finalists")
    save_decoder(root / "model")
    (root / "notes.txt").write_text("\n\n".join(domain_texts()), encoding="utf-8")
    return root


def run(place, finalists, methods=METHODS, training=TRAINING, **options):
    return compare(
        place / "model", corpus=[place / "notes.txt"], extend=8, methods=methods, training=training, score_bytes=2_000, held_out=0.4,
        finalists=finalists, **options,
    )  # fmt: skip


def figures(done):
    return {row["method"]: (row["bits_per_byte"], row["bits_per_byte_after"]) for row in done.rows[1:]}


@pytest.fixture(scope="module")
def whole(place):
    """Every start trained."""
    return figures(run(place, None))


def test_the_best_at_step_0_are_trained_and_come_first(place, whole):
    done = run(place, 2)
    best = sorted(METHODS, key=lambda name: whole[name][0])[:2]
    assert {row["method"] for row in done.rows[1:3]} == set(best)
    for name, (before, after) in figures(done).items():
        assert before == pytest.approx(whole[name][0], rel=1e-6)
        assert after == (pytest.approx(whole[name][1], rel=1e-6) if name in best else None)
    last = done.rows[3:]
    assert [row["bits_per_byte"] for row in last] == sorted(row["bits_per_byte"] for row in last)
    assert all(row["behind_first"] is None for row in last)  # a figure before training is not behind one after it
    assert done.rows[0]["behind_first"] is not None
    (table,) = [section for section in done.report.sections if section.title == "Methods"]
    assert "the best 2 at step 0 trained: 2 steps, 128 tokens a step" in table.caption


def test_more_than_there_are_trains_all(place, whole):
    for name, pair in figures(run(place, 9)).items():
        assert pair == pytest.approx(whole[name], rel=1e-6)


def test_untrained_comparisons_have_no_finalists(place):
    done = run(place, 1, training=None)
    assert all(after is None for _, after in figures(done).values())
    assert sum(row["behind_first"] is None for row in done.rows) == 1


def counted(monkeypatch):
    made = []

    def counting(checkpoint, tokenizer, change, start, context):
        made.append(start.name)
        return transplant(checkpoint, tokenizer, change, start, context)

    monkeypatch.setattr(module, "transplant", counting)
    return made


def test_a_later_call_makes_only_what_it_trains(place, whole, tmp_path, monkeypatch):
    made = counted(monkeypatch)
    first = figures(run(place, 2, out=tmp_path))
    assert sorted(made) == sorted(METHODS)
    made.clear()
    assert figures(run(place, 2, out=tmp_path)) == first
    assert made == []
    done = figures(run(place, 3, out=tmp_path))
    third = sorted(METHODS, key=lambda name: whole[name][0])[2]
    assert made == [third]
    assert done == {**first, third: (pytest.approx(whole[third][0]), pytest.approx(whole[third][1]))}
    assert json.loads((tmp_path / "comparison.json").read_text()).keys() == {"rows"}


def test_another_training_goes_on_from_the_same_starts(place, tmp_path, monkeypatch):
    first = run(place, 1, out=tmp_path)
    made = counted(monkeypatch)
    longer = run(place, 1, out=tmp_path, training=Training(steps=4, block=16, batch_size=8, accumulate=1, parameters="2x2", lr=0.01))
    assert made == [first.rows[1]["method"]]
    assert longer.rows[1]["bits_per_byte"] == pytest.approx(first.rows[1]["bits_per_byte"], rel=1e-6)
    assert longer.rows[1]["bits_per_byte_after"] < first.rows[1]["bits_per_byte_after"]
    made.clear()
    assert figures(run(place, 1, out=tmp_path)) == figures(first)
    run(place, None, out=tmp_path, methods=["mean"])
    run(place, None, out=tmp_path, methods=["mean"], training=None)
    assert made == ["mean"]


def test_an_interrupted_training_goes_on_with_the_next(place, whole, tmp_path, monkeypatch):
    trained = []
    train = module.train

    def stopped(model, *given, **named):
        if trained:
            raise KeyboardInterrupt
        trained.append(1)
        return train(model, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(module, "train", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(place, 2, out=tmp_path)
    made = counted(monkeypatch)
    done = figures(run(place, 2, out=tmp_path))
    best = sorted(METHODS, key=lambda name: whole[name][0])[:2]
    assert made == [best[1]]
    assert [done[name][1] for name in best] == [pytest.approx(whole[name][1]) for name in best]


def test_a_training_that_fails_is_its_row(place, monkeypatch):
    def broken(*given, **named):
        raise ParameterError("cut")

    monkeypatch.setattr(module, "train", broken)
    rows = {row["method"]: row for row in run(place, 1).rows}
    best = min(METHODS, key=lambda name: rows[name]["bits_per_byte"])
    assert {name for name in METHODS if rows[name]["error"] is not None} == {best}
    assert rows[best]["error"] == "ParameterError: cut"


def test_a_training_that_makes_it_worse_is_noted(place, capsys):
    wild = Training(steps=2, block=16, batch_size=2, accumulate=1, parameters="2x2", lr=10.0)
    done = run(place, 1, ["mean"], training=wild)
    (row,) = done.rows[1:]
    assert row["bits_per_byte_after"] > row["bits_per_byte"]
    (notes,) = [section for section in done.report.sections if section.title == "Notes"]
    assert notes.rows[0]["note"].startswith("mean: training made it worse, ")
    assert "training made it worse" in capsys.readouterr().err


def test_equal_tables_are_one_finalist_and_trained_once(place, monkeypatch):
    twins = {"subword": "constituent-mean"}
    monkeypatch.setattr(
        module,
        "transplant",
        lambda checkpoint, tokenizer, change, start, context: transplant(
            checkpoint, tokenizer, change, resolve("initializer", twins.get(start.name, start.name)), context
        ),
    )
    trained, train = [], module.train
    monkeypatch.setattr(module, "train", lambda *given, **named: trained.append(1) or train(*given, **named))
    found = figures(run(place, 2, ["constituent-mean", "subword", "mean", "normal"]))
    assert found["subword"] == found["constituent-mean"]
    assert sum(after is not None for _, after in found.values()) == 3
    assert len(trained) == 2


def test_few_tables_wait(place, monkeypatch):
    held, keep = [], module.StartBench.keep_tables
    monkeypatch.setattr(module.StartBench, "keep_tables", lambda live, *given: keep(live, *given) or held.append(len(live.tables)))
    run(place, 2)
    assert max(held) == 2
    held.clear()
    run(place, None)
    assert max(held) == 1


def test_trained_rows_come_before_others_and_failures_last():
    def row(before, after=None):
        return {"bits_per_byte": before, "bits_per_byte_after": after, "drift_bits_per_byte": None}

    ordered = [row(2.0, 1.0), row(1.9, 3.0), row(1.0), row(2.5), row(None)]
    assert sorted([*ordered[3:], *ordered[:3]], key=partial(rank, metric=METRIC)) == ordered


def test_starts_with_the_same_tables_count_as_one():
    def outcome(name, bits, digest):
        return Outcome({"method": name, "bits_per_byte": bits}, digest=digest)

    found = [outcome("a", 3.0, "x"), outcome("b", 1.0, "y"), outcome("c", 1.0, "y"), outcome("d", None, ""), outcome("e", 4.0, "z")]
    assert best_of(found, METRIC, 2) == ["b", "c", "a"]
    assert best_of(found, METRIC, None) == ["b", "c", "a", "e"]


@pytest.mark.parametrize(("text", "count"), [("6", 6), (" 1 ", 1), ("all", None), ("All", None)])
def test_finalists_are_a_number_or_all(text, count):
    assert finalists_from(text) == count


@pytest.mark.parametrize("text", ["0", "-1", "best", "1.5", ""])
def test_finalists_are_no_other_word(text):
    with pytest.raises(ParameterError, match="give how many starts to train"):
        finalists_from(text)


def test_the_command_line_trains_as_python_does():
    assert text_training(None, None) == DEFAULT_TRAINING
    assert text_training(None, ["warmup=0.1"]).warmup == 0.1
    assert replace(text_training("10", None), evaluate_every=None) == DEFAULT_TRAINING
    assert text_training("10", ["lr=1e-3"]).lr == 1e-3
    assert text_training("5min", None).lr == SHORT["lr"]
    assert text_training("5min", None).warmup == Training(minutes=5).warmup
    assert text_training("0", None) is None


def test_no_finalist_is_not_asked_for_by_0(place):
    with pytest.raises(ParameterError, match="train at least one start, or none at all"):
        run(place, 0)


def measured(name, bits, after=None):
    total = sum(bits) / 100
    row = {"method": name, "bits_per_byte": total, "bits_per_byte_after": after, "drift_bits_per_byte": None}
    row |= dict.fromkeys(("behind_first", "behind_first_low", "behind_first_high"))
    return Outcome(row, sample=Sample.of(bits, [10] * 10))


def test_rows_say_how_far_they_are_behind_the_first():
    draw = np.random.default_rng(0)
    hard = draw.uniform(5, 50, 10)  # what documents differ by is no doubt about methods
    noise = draw.normal(0, 1, 10)
    noise -= noise.mean()
    found = {
        m.row["method"]: m
        for m in (measured("untouched", hard - 5), measured("a", hard), measured("b", hard + 2), measured("c", hard + noise + 0.1))
    }
    rows = [one.row for one in found.values()]
    set_behind(rows, found, METRIC)
    untouched, first, behind, near = rows
    assert first["behind_first"] is None
    assert (untouched["behind_first"], behind["behind_first"]) == (pytest.approx(-0.5), pytest.approx(0.2))
    assert behind["behind_first_low"] == pytest.approx(0.2)
    assert behind["behind_first_high"] == pytest.approx(0.2)
    assert near["behind_first_low"] < 0 < near["behind_first"] < near["behind_first_high"]
    assert comparison_lead(rows).endswith("This text does not tell it from c.")


def test_one_document_gives_no_interval():
    found = {name: Outcome(measured(name, [1.0] * 10).row, sample=Sample.of([1.0], [1])) for name in ("untouched", "a", "b")}
    rows = [one.row for one in found.values()]
    set_behind(rows, found, METRIC)
    assert [row["behind_first"] for row in rows] == [None] * 3


def test_the_table_has_figures_and_the_failures_stand_below(place, monkeypatch):
    def broken(checkpoint, tokenizer, change, start, context):
        if start.name == "normal":
            raise ParameterError("cut")
        return transplant(checkpoint, tokenizer, change, start, context)

    monkeypatch.setattr("regraft.vocab.bench.transplant", broken)
    report = run(place, None, ["mean", "normal", "merge"]).report
    methods, failed = (section for section in report.sections if section.title in ("Methods", "Failed"))
    assert {row["method"] for row in methods.rows} == {"untouched", "mean", "merge"}
    assert sum(row["behind_first"] is None for row in methods.rows) == 1
    assert failed.rows == [{"method": "normal", "error": "ParameterError: cut"}]
