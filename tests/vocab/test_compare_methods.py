"""What the methods of a comparison do to each other (nothing), and which rows of an earlier call still hold: on a toy model."""

import json
from typing import Any

import pytest

from regraft.corpus import Corpus
from regraft.method import list_methods
from regraft.training import Training
from regraft.vocab.change.request import TokenizerRequest
from regraft.vocab.compare import compare
from regraft.vocab.initializer import Aids
from regraft.vocab.initializers.mean import Mean
from regraft.vocab.initializers.normal import Normal
from regraft.vocab.job import Job
from regraft.vocab.transplant.transplant import transplant
from toys.clock import count_looks
from toys.directory import domain_texts, save_decoder

KEYS = {
    "method",
    "bits_per_byte",
    "bits_per_byte_after",
    "drift_bits_per_byte",
    "tokens_per_byte",
    "greedy_hits",
    "in_hull",
    "seconds",
    "peak_mb",
}
BENCH = "regraft.vocab.bench"  # where a start is transplanted and trained


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("methods")
    save_decoder(root / "model")
    (root / "notes.txt").write_text("\n\n".join(domain_texts(60)), encoding="utf-8")
    (root / "ordinary.txt").write_text("the cat sat on a mat\n\nanother hat and that rat", encoding="utf-8")
    return root


def run(place, methods, training=None, **options):
    return compare(
        place / "model", corpus=[place / "notes.txt"], extend=8, methods=methods, training=training, score_bytes=300, held_out=0.3,
        source_text=[place / "ordinary.txt"], **options,
    )  # fmt: skip


def test_compare_has_a_row_for_every_method(place, tmp_path):
    """Rows in the hull leave greedy decoding alone."""
    methods = ["univariate", "mean", "constituent-mean"]
    done = run(place, methods, out=tmp_path / "out")
    rows = {row["method"]: row for row in done.rows}
    assert done.rows[0]["method"] == "untouched"
    assert rows.keys() == {"untouched", *methods}
    assert all(row.keys() >= KEYS and row["error"] is None for row in done.rows)
    assert [row["bits_per_byte"] for row in done.rows[1:]] == sorted(row["bits_per_byte"] for row in done.rows[1:])
    assert (rows["constituent-mean"]["in_hull"], rows["univariate"]["in_hull"]) == (1.0, 0.0)
    assert rows["mean"]["greedy_hits"] == 0
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["rows"] == done.rows
    again = run(place, methods, out=tmp_path / "out")
    assert again.rows == done.rows, "finished rows are not measured again"


def test_no_method_of_a_comparison_finds_what_another_one_learned(place, monkeypatch):
    contexts = []

    def learns(checkpoint: Any, tokenizer: Any, change: Any, start: Any, context: Any) -> Any:
        contexts.append(context)
        assert context.memory == {}
        context.remember("vectors", list)
        return transplant(checkpoint, tokenizer, change, start, context)

    monkeypatch.setattr(f"{BENCH}.transplant", learns)
    done = run(place, ["mean", "normal"])
    assert [row["error"] for row in done.rows] == [None] * 3
    assert len(contexts) == 2


def test_equal_tables_are_scored_once(place, monkeypatch):
    scored, score = [], Job.score

    def counted(job: Job, name: str, *args: Any, **options: Any) -> Any:
        scored.append(name)
        return score(job, name, *args, **options)

    def always_mean(checkpoint: Any, tokenizer: Any, change: Any, start: Any, context: Any) -> Any:
        return transplant(checkpoint, tokenizer, change, Mean(), context)

    monkeypatch.setattr(Job, "score", counted)
    monkeypatch.setattr(f"{BENCH}.transplant", always_mean)
    done = run(place, ["mean", "merge"])
    assert scored == ["untouched", "mean"]
    untouched, one, other = done.rows
    assert {one["method"], other["method"]} == {"mean", "merge"}
    assert one["bits_per_byte"] == other["bits_per_byte"] != untouched["bits_per_byte"]


def test_a_training_that_fails_leaves_the_score_before_it(place, monkeypatch):
    def fails(*args: Any, **options: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(f"{BENCH}.train", fails)
    row = run(place, ["mean"], Training(steps=1, block=16)).rows[1]
    assert row["bits_per_byte"] > 0
    assert row["bits_per_byte_after"] is None
    assert "out of memory" in row["error"]


def test_rows_of_other_settings_or_aids_are_measured_again(place, tmp_path):
    measured = []

    def rows_after(**options: Any) -> None:
        found = run(place, ["constituent-exponential"], out=tmp_path / "out", **options)
        assert found.rows[1]["error"] is None
        measured.append(len((tmp_path / "out" / "rows.jsonl").read_text().splitlines()))

    dictionary = tmp_path / "dictionary.txt"
    for text in ("a b\n", "a c d\n"):
        dictionary.write_text(text)
        rows_after(aids=Aids(dictionary=dictionary))
        rows_after(aids=Aids(dictionary=dictionary))
    rows_after(aids=Aids(dictionary=dictionary), settings={"constituent-exponential": {"rate": 3.0}})
    assert measured == [2, 2, 4, 4, 5]


def test_other_tables_have_another_digest(place):
    job = Job.prepare(place / "model", Corpus.open([place / "notes.txt"]), TokenizerRequest(extend=8))
    digests = [transplant(job.checkpoint, job.tokenizer, job.change, start, job.context).digest() for start in (Mean(), Mean(), Normal())]
    assert digests[0] == digests[1] != digests[2]


def test_every_start_that_needs_no_more_than_a_table_has_a_row(place):
    names = [cls.name for cls in list_methods("initializer") if not getattr(cls, "needs", ())]
    done = run(place, names)
    assert {row["method"] for row in done.rows} == {"untouched", *names}
    assert [row["error"] for row in done.rows if row["error"]] == []


def test_a_method_that_lacks_what_it_needs_names_the_option_and_the_others_go_on(place):
    rows = {row["method"]: row for row in run(place, ["omp", "mean"]).rows}
    assert "--donor" in rows["omp"]["error"]
    assert rows["mean"]["bits_per_byte"] > 0


def test_auto_is_never_worse_than_the_mean_of_the_pieces(place, monkeypatch):
    """Six steps of learning, counted by a clock of their own: what is kept must not be worse than where it started."""
    count_looks(monkeypatch, seconds=0.5)
    settings = {"auto": {"steps": 6, "block": 32, "batch_size": 4, "lr": 0.01}}
    done = run(place, ["auto", "constituent-mean"], settings=settings)
    rows = {row["method"]: row for row in done.rows}
    assert rows["auto"]["error"] is None
    assert rows["auto"]["bits_per_byte"] < rows["constituent-mean"]["bits_per_byte"], "six steps learn something"
    assert rows["auto"]["drift_bits_per_byte"] <= 0.02 * rows["untouched"]["ordinary_bits_per_byte"]
