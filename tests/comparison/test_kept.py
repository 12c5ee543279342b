import json

import numpy as np
import pytest

from regraft.comparison import Kept, Metric, Outcome, ranked
from regraft.comparison.ranking import best
from regraft.evaluation.paired import Sample

OLD = {  # a line as `regraft compare` has always written it
    "key": "k",
    "settings": "mean Mean()",
    "row": {"method": "mean", "bits_per_byte": 1.5, "bits_per_byte_after": None, "error": None},
    "curve": [[0.0, 1.5], [2.0, 1.25]],
    "notes": ["a note"],
    "document_bits": [10.5, 20.0, 0.0],
    "document_bytes": [8, 12, 0],
    "digest": "d",
}
BITS = Metric("bits_per_byte", amounts="document_bits", sizes="document_bytes")


def test_a_line_is_read_and_written_the_same(tmp_path):
    text = json.dumps(OLD, ensure_ascii=False) + "\n"
    (tmp_path / "rows.jsonl").write_text(text)
    found = Outcome.from_line(Kept(tmp_path, "rows.jsonl").found("k", "mean Mean()"), BITS)
    assert found.curve == [(0.0, 1.5), (2.0, 1.25)]
    assert found.sample.value == pytest.approx(30.5 / 20)
    Kept(tmp_path / "new", "rows.jsonl").keep("k", found.to_line(BITS), "mean Mean()")
    assert (tmp_path / "new" / "rows.jsonl").read_text() == text


def test_samples_of_several_seeds_and_of_none_come_back():
    metric = Metric("f1", "high")
    for sample in (None, Sample(np.array([[1.0, 2.5], [3.0, 4.0]]), np.array([[2.0, 2.0], [2.5, 2.0]]))):
        line = json.loads(json.dumps(Outcome({"method": "a", "f1": 0.5}, sample).to_line(metric)))
        again = Outcome.from_line(line, metric).sample
        assert (again is None) == (sample is None)
        if sample is not None:
            assert np.array_equal(again.amounts, sample.amounts)
            assert np.array_equal(again.sizes, sample.sizes)


def test_the_last_line_without_an_error_is_found(tmp_path):
    kept = Kept(tmp_path, "rows.jsonl")
    for error, figure in ((None, 1), (None, 2), ("cut", 3)):
        kept.keep("k", {"row": {"method": "a", "figure": figure, "error": error}}, "a")
    for one in (kept, Kept(tmp_path, "rows.jsonl")):
        assert one.found("k", "a")["row"]["figure"] == 2
        assert one.found("k") is one.found("other", "a") is None
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 3


def test_a_line_cut_by_a_kill_is_done_again(tmp_path):
    kept = Kept(tmp_path, "runs.jsonl")
    kept.keep("one", {"said": "a line\u2028in two, дом"})
    kept.keep("two", {"said": "дом"})
    whole = (tmp_path / "runs.jsonl").read_bytes()
    for length in range(whole.index(b"\n") + 1, len(whole) - 1):
        (tmp_path / "runs.jsonl").write_bytes(whole[:length])
        again = Kept(tmp_path, "runs.jsonl")
        assert again.found("one") == kept.found("one")
        assert again.found("two") is None
        again.keep("two", {"said": "дом"})
        assert Kept(tmp_path, "runs.jsonl").lines == kept.lines


def test_in_memory_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = Kept(None, "runs.jsonl")
    kept.keep("k", {"figure": 1})
    assert kept.found("k") == {"key": "k", "figure": 1}
    assert list(tmp_path.iterdir()) == []


def test_where_more_is_better_the_highest_is_first():
    metric = Metric("f1", "high")
    values = {"base": 0.5, "a": 0.2, "b": 0.8, "c": 0.6}
    noise = np.array([-0.1, 0.1, 0.0, 0.0])
    outcomes = {
        name: Outcome({"method": name, "f1": value, "error": None}, Sample.of(value + (noise if name == "c" else 0 * noise)))
        for name, value in values.items()
    }
    rows = ranked([one.row for one in outcomes.values()], outcomes, metric)
    assert [row["method"] for row in rows] == ["base", "b", "c", "a"]
    assert best([outcomes[name] for name in ("a", "b", "c")], metric, 2) == ["b", "c"]
    behind = {row["method"]: row.get("behind_first") for row in rows}
    assert behind == {"base": pytest.approx(0.3), "b": None, "c": pytest.approx(0.2), "a": pytest.approx(0.6)}
    assert rows[2]["behind_first_low"] < 0.2 < rows[2]["behind_first_high"]
