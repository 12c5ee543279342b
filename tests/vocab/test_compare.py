"""A comparison outlives the methods in it, and knows its aids by content."""

import struct
from pathlib import Path
from types import SimpleNamespace as Named

import gensim.models
import numpy as np
import pytest
from transformers import LlamaModel

from regraft.errors import ParameterError
from regraft.training import Training
from regraft.vocab import bench as module
from regraft.vocab.bench import aid_stamps
from regraft.vocab.compare import compare
from regraft.vocab.initializer import Aids
from regraft.vocab.transplant.transplant import transplant
from toys.clock import count_looks
from toys.directory import domain_texts, save_decoder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("compare")
    save_decoder(root / "model")
    (root / "notes.txt").write_text("\n".join(domain_texts()), encoding="utf-8")
    return root


def run(place, methods, **options):
    done = compare(place / "model", corpus=[place / "notes.txt"], extend=8, methods=methods, training=None, score_bytes=200, **options)
    return {row["method"]: row for row in done.rows}


def failing(monkeypatch, errors):
    """Let starts fail as `errors` says, by name; the others say something."""

    def broken(checkpoint, tokenizer, change, start, context):
        if start.name in errors:
            raise errors[start.name]
        context.notes.append(f"{start.name}: as well as it could")
        return transplant(checkpoint, tokenizer, change, start, context)

    monkeypatch.setattr(module, "transplant", broken)


def test_whatever_fails_in_one_method_is_its_row_and_the_others_go_on(place, monkeypatch, capsys):
    kinds = [EOFError, ImportError, KeyError, IndexError, TypeError, OSError, struct.error, MemoryError, ParameterError]
    names = ["normal", "univariate", "multivariate", "transformers-default", "constituent-mean", "constituent-exponential", "merge",
             "subword", "align"]  # fmt: skip
    errors = {name: kind("cut") for name, kind in zip(names, kinds, strict=True)}
    failing(monkeypatch, errors)
    rows = run(place, [*names, "mean"])
    for name, error in errors.items():
        assert rows[name]["error"].startswith(f"{type(error).__name__}: ")
        assert "cut" in rows[name]["error"]
        assert rows[name]["bits_per_byte"] is None
    assert rows["mean"]["error"] is None
    assert rows["mean"]["bits_per_byte"] > 0
    assert "mean: as well as it could" in capsys.readouterr().err  # notes are said


def test_the_user_still_ends_it(place, monkeypatch):
    failing(monkeypatch, {"normal": KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        run(place, ["normal", "mean"])


def test_vectors_in_memory_are_known_by_content(tmp_path):
    vectors = {"cat": [1.0, 2.0], "dog": [0.5, 1.0]}
    keyed = gensim.models.KeyedVectors(2)
    keyed.add_vectors(list(vectors), np.array(list(vectors.values()), dtype=np.float32))
    same = [aid_stamps(Aids(vectors=given)) for given in (vectors, {word: np.array(row) for word, row in vectors.items()}, keyed)]
    assert same[0] == same[1] == same[2]
    assert aid_stamps(Aids(vectors={**vectors, "dog": [0.5, 1.5]})) != same[0]
    assert aid_stamps(Aids(source_vectors=vectors)) != same[0]
    assert aid_stamps(Aids(vectors=tmp_path / "a.vec")) != same[0]


def test_keys_are_those_of_folders_that_were_made_before():
    aids = Aids(dictionary=Path("absent.txt"), bitext=(Path("a"), Path("b")), vectors={"cat": [1.0, 2.0]})
    change = Named(tokenizer=Named(spec={"model": {"vocab": {"a": 0}}}))
    texts = {"domain": ["held", "out"], "ordinary": ["ordinary"]}
    checkpoint, corpus = Named(source_hash=lambda: "model"), Named(sha256="corpus")
    job = Named(checkpoint=checkpoint, corpus=corpus, change=change, aids=aids, dtype="auto", context=Named(seed=3), **texts)
    keys = [module.StartBench.fingerprint(Named(job=job, training=7), trained=trained) for trained in (False, True)]
    assert keys == [
        "c2e55f588f6fe167b6702c9c8bc74075194b89b49af90309efc9f59d4e2f7bd5",
        "4cb074ca8af3efa1c283020cf10c28682ece2a88cb9603f9245e2ad6845a53e5",
    ]


def test_rows_with_equal_vectors_in_memory_are_measured_once(place, tmp_path):
    draw, measured = np.random.default_rng(0), []
    vectors = {word: draw.standard_normal(4) for word in sorted({word for text in domain_texts() for word in text.split()})}
    for given in (vectors, {word: row.copy() for word, row in vectors.items()}, {word: row + 1 for word, row in vectors.items()}):
        rows = run(place, ["wechsel"], aids=Aids(vectors=given, source_vectors=given), settings={"wechsel": {"k": 3}}, out=tmp_path)
        assert rows["wechsel"]["error"] is None
        measured.append(len((tmp_path / "rows.jsonl").read_text().splitlines()))
    assert measured == [2, 2, 4]


def test_notes_are_in_the_report_also_of_rows_that_were_kept(place, tmp_path, monkeypatch):
    failing(monkeypatch, {"normal": ParameterError("cut")})
    for _ in range(2):
        done = compare(
            place / "model", corpus=[place / "notes.txt"], extend=8, methods=["mean"], training=None, score_bytes=200, out=tmp_path
        )
        assert done.outcomes["mean"].notes == ["mean: as well as it could"]
        (notes,) = [section for section in done.report.sections if section.title == "Notes"]
        assert notes.rows == [{"method": "mean", "note": "mean: as well as it could"}]
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 2


def test_states_of_ordinary_text_are_shared_only_where_they_are_the_same(place, monkeypatch):
    methods = ["constituent-mean", "univariate", "ofa", "auto", "merge"]
    options = {"settings": {"ofa": {"rank": 4, "auxiliary": "corpus", "min_count": 1}, "auto": {"steps": 3, "block": 16, "lr": 0.1}}}
    options |= {"training": Training(steps=2, block=16, batch_size=2, lr=0.1), "score_bytes": 2000}
    count_looks(monkeypatch)
    shared, read = [], []
    ask = module.StartBench.reads_as_before
    monkeypatch.setattr(module.StartBench, "reads_as_before", lambda live, result: shared.append(ask(live, result)) or shared[-1])
    forward = LlamaModel.forward
    monkeypatch.setattr(LlamaModel, "forward", lambda *given, **named: read.append(1) or forward(*given, **named))
    one = compare(place / "model", corpus=[place / "notes.txt"], extend=8, methods=methods, **options)
    with_sharing = len(read)
    monkeypatch.setattr(module.StartBench, "reads_as_before", lambda live, result: False)
    other = compare(place / "model", corpus=[place / "notes.txt"], extend=8, methods=methods, **options)
    assert shared == [True, True, False, False, True]  # ofa's tables are factorised, auto's layers have learned
    assert with_sharing < len(read) - with_sharing
    for row, again in zip(one.rows, other.rows, strict=True):
        assert row["error"] is None
        for figure in ("bits_per_byte", "bits_per_byte_after", "ordinary_bits_per_byte", "greedy_hits"):
            assert row[figure] == (again[figure] if again[figure] is None else pytest.approx(again[figure], rel=1e-6))
