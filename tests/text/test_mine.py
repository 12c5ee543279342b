"""Mining: no negative above its threshold, the same as sentence-transformers' where that does the same, and an honest estimate."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.util import mine_hard_negatives
from typer.testing import CliRunner

from datasets import Dataset
from regraft.cli import app
from regraft.errors import CorpusError
from regraft.method import resolve
from regraft.text.mine import Judged, estimate, mine, nearest, thresholds
from regraft.text.tasks.task import encoder
from toys.models import texts


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 0.5, 0.95, 1.0, 1.05]), st.integers(1, 12))
def test_nearest_is_a_plain_loop(seed, margin, most):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.normal(size=(4, 9)), 1)  # with ties
    known = np.zeros((4, 9), dtype=bool)
    for row in range(4):
        known[row, rng.choice(9, rng.integers(1, 4), replace=False)] = True
    for row, found in enumerate(nearest(scores, known, margin, most)):
        least = min(scores[row][known[row]])
        limit = np.inf if margin is None else margin * least if least > 0 else least - abs(1 - margin)
        open_to = [place for place in range(9) if not known[row, place] and scores[row, place] < limit]
        wanted = sorted(open_to, key=lambda place: (-scores[row, place], place))[:most]
        assert found.tolist() == wanted + [-1] * (most - len(wanted))


def test_a_share_of_a_positive_and_a_distance_below_zero():
    np.testing.assert_allclose(thresholds(np.array([0.8, 0.0, -0.2]), 0.95), [0.76, -0.05, -0.25])


@pytest.fixture(scope="module")
def model(bert_folder):
    return resolve("encoder", "mean").build(bert_folder)


def test_with_one_positive_it_is_what_sentence_transformers_mines(model):
    corpus = {f"d{n}": text for n, text in enumerate(dict.fromkeys(texts(80, 1)))}
    queries = {f"q{n}": text for n, text in enumerate(dict.fromkeys(texts(20, 2)))}
    positives = {query: [f"d{3 * n}"] for n, query in enumerate(queries)}
    ours = mine(Judged(corpus, queries, positives), encoder(model), margin=0.95, negatives=3)
    pairs = Dataset.from_list([{"a": queries[q], "p": corpus[found[0]]} for q, found in positives.items()])
    theirs = mine_hard_negatives(
        pairs,
        model,
        corpus=list(corpus.values()),
        relative_margin=0.05,
        num_negatives=3,
        range_max=80,
        output_format="n-tuple",
        verbose=False,
    )
    whole = {queries[q]: [corpus[name] for name, _ in found] for q, found in ours.negatives.items() if len(found) == 3}
    assert {row["a"]: [row[f"negative_{n}"] for n in (1, 2, 3)] for row in theirs} == whole
    assert len(whole) > 5
    assert ours.hidden is None  # nobody has two positives


def fixed(at):
    return lambda given, role: np.array([at[text] for text in given], dtype=np.float32)


def angle(degrees):
    return [np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]


def test_the_lowest_of_several_positives_rules_twins_are_none_and_the_estimate_is_by_hand():
    at = {"q": angle(0), "near": angle(10), "far": angle(40), "between": angle(30), "beyond": angle(50), "last": angle(80)}
    corpus = {"a": "near", "b": "far", "b2": "far", "c": "between", "d": "beyond", "e": "last"}
    judged = Judged(corpus, {"q": "q"}, {"q": ["a", "b"]})
    found = mine(judged, fixed(at), margin=0.95, negatives=2)
    assert [name for name, _ in found.negatives["q"]] == ["d", "e"]
    # only `near` known: c, then b of b and b2 are mined and one is an answer; only `far` known: d and e, none is
    assert found.hidden.value == pytest.approx(1 / 4)
    share = estimate(found.hidden)
    assert (share["share"], share["queries"]) == (pytest.approx(1 / 4), 1)


def test_blocks_change_nothing(model, monkeypatch):
    corpus = {f"d{n}": text for n, text in enumerate(dict.fromkeys(texts(60, 5)))}
    queries = {f"q{n}": text for n, text in enumerate(texts(15, 6))}
    judged = Judged(corpus, queries, {query: [f"d{n}", f"d{n + 20}", f"d{n + 30}"] for n, query in enumerate(queries)})
    whole = mine(judged, encoder(model))
    monkeypatch.setattr("regraft.text.mine.CELLS", 150)
    parts = mine(judged, encoder(model))
    assert {q: [n for n, _ in f] for q, f in parts.negatives.items()} == {q: [n for n, _ in f] for q, f in whole.negatives.items()}
    np.testing.assert_array_equal(parts.hidden.amounts, whole.hidden.amounts)


@pytest.fixture
def files(tmp_path):
    write(tmp_path / "c.jsonl", [{"_id": f"d{n}", "title": "", "text": text} for n, text in enumerate(dict.fromkeys(texts(50, 7)))])
    asked = [{"_id": f"q{n}", "text": text, "positive": [f"d{n}", f"d{n + 10}"]} for n, text in enumerate(texts(8, 8))]
    write(tmp_path / "q.jsonl", [*asked, {"_id": "q9", "text": "no answer"}])
    lines = [f"q{n}\td{n}\t1\nq{n}\td{n + 10}\t2\nq{n}\td40\t0\n" for n in range(8)]
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    return tmp_path


def ask(files, folder, *more):
    given = ["text", "mine", "--corpus", files / "c.jsonl", "--queries", files / "q.jsonl", "--teacher", folder, "--out", files / "p.jsonl"]
    return CliRunner().invoke(app, [*map(str, given), *more])


def test_the_command_writes_pairs_and_what_it_did(files, bert_folder):
    done = ask(files, bert_folder, "--negatives", "2", "--margin", "0.99", "--json")
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout.splitlines()[-1])
    rows = [json.loads(line) for line in (files / "p.jsonl").read_text().splitlines()]
    assert figures == json.loads((files / "p.report.json").read_text())
    assert len(rows) == figures["rows"] == 2 * figures["queries"] > 0
    assert figures["queries"] + figures["left_out"] == 8
    assert figures["without_positive"] == 1
    assert set(rows[0]) == {"anchor", "positive", "negative_1", "negative_2"}
    assert 0 <= figures["false_negatives"]["share"] <= 1
    again = ask(files, bert_folder, "--negatives", "2", "--margin", "0.99", "--positives", str(files / "qrels.tsv"))
    assert "false negatives, if only one answer a query were known" in again.stdout
    assert [json.loads(line) for line in (files / "p.jsonl").read_text().splitlines()] == rows


@pytest.mark.parametrize(
    ("break_it", "more", "said"),
    [
        (lambda f: write(f / "q.jsonl", [{"_id": "q", "text": "a"}]), [], "none of 1 queries has a positive among 50 documents"),
        (
            lambda f: write(f / "q.jsonl", [{"_id": "q", "text": "a", "positive": "x"}]),
            [],
            "give --positives qrels.tsv, or a field positive",
        ),
        (lambda f: write(f / "c.jsonl", [{"text": "a"}]), [], "record 1: needs _id and text"),
        (lambda f: (f / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq0\td0\tyes\n"), ["--positives"], "line 2: needs columns"),
        (lambda f: None, ["--margin", "0"], "a margin above 0 and up to 2"),
        (lambda f: None, ["--negatives", "49"], "no query has 49 documents below 0.95"),
        (lambda f: (f / "c.jsonl").unlink(), [], "no such file"),
    ],
)
def test_what_cannot_be_mined_is_one_line(break_it, more, said, files, bert_folder):
    break_it(files)
    done = ask(files, bert_folder, *more, *([str(files / "qrels.tsv")] if more == ["--positives"] else []))
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert not (files / "p.jsonl").exists()


def test_a_judgement_without_its_documents_is_no_positive():
    with pytest.raises(CorpusError, match="none of 1 queries has a positive"):
        Judged({"d": "text"}, {"q": "text"}, {})
