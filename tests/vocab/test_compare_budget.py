"""A comparison bounded in time takes the same share of the work from every method, and says how sure its order is."""

import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest

from model_directory import domain_texts, save_decoder
from regraft.cli.compare import minutes_from
from regraft.errors import ParameterError
from regraft.training import Training
from regraft.vocab import compare_budget as module
from regraft.vocab.compare import compare
from regraft.vocab.compare_report import comparison_lead
from regraft.vocab.compare_rows import Outcome, set_behind
from regraft.vocab.transplant import transplant

SIZE = 2_000


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("within")
    save_decoder(root / "model")
    (root / "notes.txt").write_text("\n\n".join(domain_texts()), encoding="utf-8")
    return root


@pytest.fixture
def slow(monkeypatch):
    """A machine on which a token takes a second."""
    monkeypatch.setattr(module, "seconds_per_token", lambda *given: 1.0)
    monkeypatch.setattr(module, "METHOD_SECONDS", 0.0)


def run(place, within, methods=("mean", "merge"), *, steps=2, **options):
    training = Training(steps=steps, block=16, batch_size=8, accumulate=1, parameters="rows") if steps else None
    return compare(
        place / "model", corpus=[place / "notes.txt"], extend=8, methods=methods, training=training, score_bytes=SIZE, held_out=0.4,
        within=within, **options,
    )  # fmt: skip


def test_nothing_is_shrunk_where_all_fits(place):
    assert run(place, 60.0).share == 1.0
    assert run(place, None).share == 1.0


def test_a_slow_machine_scores_and_trains_on_a_share(place, slow, tmp_path, capsys):
    whole = run(place, None)
    done = run(place, 20.0, out=tmp_path)
    assert module.SMALLEST <= done.share < 1
    scored, all_of_it = (len(c.outcomes["mean"].document_bits) for c in (done, whole))
    assert 0 < scored < all_of_it
    said = capsys.readouterr().err
    assert f"{math.ceil(8 * done.share) * 16:,} tokens a step" in said
    assert json.loads((tmp_path / "comparison.json").read_text())["share"] == done.share


def test_a_comparison_goes_on_with_the_share_it_began_with(place, slow, monkeypatch, tmp_path):
    first = run(place, 20.0, out=tmp_path)
    monkeypatch.setattr(module, "seconds_per_token", lambda *given: pytest.fail("measured again"))
    again = run(place, 20.0, out=tmp_path)
    assert (again.share, again.rows) == (first.share, first.rows)


def test_the_share_is_what_is_left_by_what_all_would_take(place, slow, monkeypatch):
    """Two methods of 2 x 100 tokens of text, and a training of 2 steps of 8 x 16 tokens that cost double."""
    monkeypatch.setattr(module, "tokens", lambda job, texts: 100)
    job = type("Job", (), {"domain": ["a"], "ordinary": ["b"], "context": None})()
    methods = [type("Start", (), {"needs": ()})() for _ in range(2)]
    training = Training(steps=2, block=16, batch_size=8, accumulate=1)
    for_all = 2 * (200 + 2 * 256)
    fixed = 2 * 100 + 100  # ordinary text for each, and the untouched model's reading
    assert module.affordable(None, None, job, methods, training, fixed + for_all / 2) == 0.5
    assert module.affordable(None, None, job, methods, training, fixed + 2 * for_all) == 1.0
    assert module.affordable(None, None, job, methods, training, 0.0) == module.SMALLEST
    methods[0].minutes = 2.0  # learns for 120 s of its own
    assert module.affordable(None, None, job, methods, training, fixed + 120 + for_all / 2) == 0.5
    assert module.affordable(None, None, job, methods, None, fixed + 120 + 100) == 0.5


def test_methods_whose_aids_are_not_given_take_no_time(place, slow):
    methods = ["mean", "wechsel", "omp"]
    assert run(place, 20.0, methods).share == run(place, 20.0, ["mean"]).share


def test_a_training_by_the_clock_keeps_its_batches():
    @dataclass(frozen=True)
    class Job:
        domain: list[str]

    clock, steps = Training(minutes=1.0, batch_size=8), Training(steps=4, batch_size=8)
    job, training = module.shrunk(Job(["ab", "cd", "ef", "gh"]), clock, 0.5)
    assert (len(job.domain), training) == (2, clock)
    assert module.shrunk(job, steps, 0.5)[1] == replace(steps, batch_size=4, lr=steps.lr * math.sqrt(0.5))
    assert module.shrunk(job, steps, 0.1)[1] == replace(steps, batch_size=1, lr=steps.lr * math.sqrt(1 / 8))


def measured(name, bits, after=None):
    total = sum(bits) / 100
    row = {"method": name, "bits_per_byte": total, "bits_per_byte_after": after, "drift_bits_per_byte": None}
    row |= dict.fromkeys(("behind_first", "behind_first_low", "behind_first_high"))
    return Outcome(row, document_bits=list(bits), document_bytes=[10] * 10)


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
    set_behind(rows, found)
    untouched, first, behind, near = rows
    assert first["behind_first"] is None
    assert (untouched["behind_first"], behind["behind_first"]) == (pytest.approx(-0.5), pytest.approx(0.2))
    assert behind["behind_first_low"] == pytest.approx(0.2)
    assert behind["behind_first_high"] == pytest.approx(0.2)
    assert near["behind_first_low"] < 0 < near["behind_first"] < near["behind_first_high"]
    assert comparison_lead(rows).endswith("This text does not tell it from c.")


def test_one_document_gives_no_interval():
    found = {name: Outcome(measured(name, [1.0] * 10).row, document_bits=[1.0], document_bytes=[1]) for name in ("untouched", "a", "b")}
    rows = [one.row for one in found.values()]
    set_behind(rows, found)
    assert [row["behind_first"] for row in rows] == [None] * 3


@pytest.mark.parametrize(("text", "minutes"), [("90s", 1.5), ("25min", 25.0), ("1h", 60.0), (None, None)])
def test_within_reads_times(text, minutes):
    assert minutes_from(text) == minutes


@pytest.mark.parametrize("text", ["200", "2epochs", "soon", "0min"])
def test_within_is_a_time(text):
    with pytest.raises(ParameterError, match=f"--within {text}: write a time"):
        minutes_from(text)


def test_the_table_has_figures_and_the_failures_stand_below(place, monkeypatch):
    def broken(checkpoint, tokenizer, change, start, context):
        if start.name == "normal":
            raise ParameterError("cut")
        return transplant(checkpoint, tokenizer, change, start, context)

    monkeypatch.setattr("regraft.vocab.compare.transplant", broken)
    report = run(place, None, ["mean", "normal", "merge"]).report
    methods, failed = (section for section in report.sections if section.title in ("Methods", "Failed"))
    assert {row["method"] for row in methods.rows} == {"untouched", "mean", "merge"}
    assert sum(row["behind_first"] is None for row in methods.rows) == 1
    assert failed.rows == [{"method": "normal", "error": "ParameterError: cut"}]
