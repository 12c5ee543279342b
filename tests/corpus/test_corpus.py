"""Corpus reading: round trips through each format, the split's invariants, and what bad input says."""

import contextlib
import csv
import gzip
import io
import json
import os
import struct
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regraft.corpus import Corpus
from regraft.corpus.catalogues import CatalogueError, read_mo
from regraft.corpus.readers import UnreadableError, json_values, read_documents
from regraft.errors import CorpusError, ParameterError

HOLDS_UTF8 = st.characters(exclude_categories=("Cs",))
TEXT = st.text(HOLDS_UTF8, min_size=1, max_size=40).filter(lambda text: not text.isspace())
TEXTS = st.lists(TEXT, min_size=1, max_size=20)
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(path: Path, **options: str) -> list[str]:
    return list(Corpus.open([path], held_out=0, **options).documents())


@QUICK
@given(texts=TEXTS, escaped=st.booleans())
def test_json_lines_come_back_as_written(tmp_path: Path, texts: list[str], escaped: bool) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": t, "n": 1}, ensure_ascii=escaped) + "\n" for t in texts), encoding="utf-8", newline="")
    assert read(path) == texts


@QUICK
@given(texts=TEXTS, indent=st.sampled_from([None, 2]))
def test_a_json_array_comes_back_as_written(tmp_path: Path, texts: list[str], indent: int | None) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"body": {"text": t}} for t in texts], indent=indent), encoding="utf-8")
    assert read(path, text_column="body.text") == texts


@QUICK
@given(values=st.lists(st.one_of(TEXT, st.dictionaries(TEXT, TEXT, max_size=3)), max_size=8), chunk=st.integers(1, 50), array=st.booleans())
def testjson_values_do_not_depend_on_where_chunks_end(tmp_path: Path, values: list[object], chunk: int, array: bool) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(values) if array else "\n".join(map(json.dumps, values)), encoding="utf-8")
    assert list(json_values(path, chunk)) == values


@QUICK
@given(texts=TEXTS, suffix=st.sampled_from([".csv", ".tsv"]))
def test_quoted_tables_come_back_as_written(tmp_path: Path, texts: list[str], suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, delimiter="," if suffix == ".csv" else "\t", quoting=csv.QUOTE_ALL)
        rows.writerows([["id", "text"], *([i, t] for i, t in enumerate(texts))])
    kept = [] if "\x00" in "".join(texts) else texts  # a NUL near the start marks a binary file
    if kept:
        assert read(path) == kept
    else:
        with pytest.raises(CorpusError, match="binary"):
            read(path)


def test_unquoted_tsv_keeps_its_quotation_marks(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('word\ttext\n"\tan "odd" mark\n', encoding="utf-8")
    assert read(path) == ['an "odd" mark']


def test_parquet_and_saved_datasets(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"text": ["ä", "b", None], "nested": [{"t": "x"}, {"t": "y"}, {"t": "z"}]})
    parquet.write_table(table.data.table, tmp_path / "a.parquet")
    table.save_to_disk(tmp_path / "saved")
    assert read(tmp_path / "a.parquet") == read(tmp_path / "saved") == ["ä", "b"]
    assert read(tmp_path / "a.parquet", text_column="nested.t") == ["x", "y", "z"]
    with pytest.raises(CorpusError, match="has no column 'body': it has text, nested"):
        read(tmp_path / "a.parquet", text_column="body")
    (tmp_path / "a.parquet").unlink()
    assert sorted(read(tmp_path)) == ["b", "ä"]  # found inside a folder, as one thing


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorpusError, match=r"pip install 'regraft\[data\]'"):
        Corpus.open([tmp_path / "a.parquet"])


def compiled_catalogue(pairs: list[tuple[bytes, bytes]], order: str) -> bytes:
    start = 28 + 16 * len(pairs)
    originals = translations = body = b""
    for original, _ in pairs:
        originals += struct.pack(f"{order}2I", len(original), start + len(body))
        body += original + b"\0"
    for _, translation in pairs:
        translations += struct.pack(f"{order}2I", len(translation), start + len(body))
        body += translation + b"\0"
    head = struct.pack(f"{order}7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0)
    return head + originals + translations + body


@pytest.mark.parametrize("order", ["<", ">"])
def test_compiled_catalogues_give_translations_in_their_character_set(tmp_path: Path, order: str) -> None:
    pairs = [(b"", b"Content-Type: text/plain; charset=ISO-8859-1\n"), (b"Key\0Keys", "Schlüssel\0Schlüssel (Pl.)".encode("latin-1"))]
    path = tmp_path / "de.mo"
    path.write_bytes(compiled_catalogue(pairs, order))
    assert read(path) == ["Schlüssel", "Schlüssel (Pl.)"]


@QUICK
@given(st.binary(max_size=80))
def test_damaged_catalogues_are_refused_not_believed(noise: bytes) -> None:
    data = compiled_catalogue([(b"a", b"b")], "<")[:20] + noise
    with contextlib.suppress(CatalogueError, UnicodeDecodeError):
        list(read_mo(data))


def test_catalogue_sources_leave_out_fuzzy_obsolete_and_untranslated(tmp_path: Path) -> None:
    path = tmp_path / "vi.po"
    path.write_text(
        'msgid ""\nmsgstr "Language: vi\\n"\n\n#: a.c:1\nmsgid "Open"\nmsgstr "Mở"\n\n#, fuzzy\nmsgid "Close"\nmsgstr "Xong"\n\n'
        'msgid "%d file"\nmsgid_plural "%d files"\nmsgstr[0] "%d tập "\n"tin \\"x\\""\n\nmsgid "Quit"\nmsgstr ""\n\n'
        '#~ msgid "Old"\n#~ msgstr "Cũ"\n',
        encoding="utf-8",
    )
    assert read(path) == ["Mở", '%d tập tin "x"']


def test_plain_text_is_cut_at_blank_lines_or_else_at_lines(tmp_path: Path) -> None:
    (tmp_path / "blocks").write_bytes(b"one\r\ntwo\r\n \t\r\n\r\nthree\n\n")
    (tmp_path / "lines.md").write_text("\n\none\ntwo\n\n")
    assert read(tmp_path / "blocks") == ["one\ntwo", "three"]
    assert read(tmp_path / "lines.md") == ["one", "two"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("zipped", [False, True])
def test_encodings_are_told_by_their_mark_and_gzip_by_its_magic(tmp_path: Path, encoding: str, zipped: bool) -> None:
    data = "Tiếng Việt\nनमस्ते".encode(encoding)
    (tmp_path / "a.txt").write_bytes(gzip.compress(data) if zipped else data)
    assert read(tmp_path / "a.txt") == ["Tiếng Việt", "नमस्ते"]


def test_unreadable_files_are_skipped_and_counted(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("fine\n")
    (tmp_path / "late.txt").write_bytes(b"fine so far\n" * 5000 + b"\xff\xfe\xfd")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\x00\x00")
    (tmp_path / "short.txt.gz").write_bytes(gzip.compress(os.urandom(2000).hex().encode())[:900])
    (tmp_path / "other.jsonl").write_text('{"body": "x"}\n')
    (tmp_path / ".hidden").write_text("not read\n")
    corpus = Corpus.open([tmp_path])
    assert list(corpus.documents()) == ["fine"]
    assert {Path(path).name: why.split(" (")[0].split(":")[0] for path, why in corpus.skipped} == {
        "late.txt": "not UTF-8 text",
        "image.png": "binary",
        "short.txt.gz": "damaged or truncated gzip file",
        "other.jsonl": "record 1 has no 'text'",
    }


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", '{"body": 1}', "record 1 has no 'text': it has body; name the text with --text-column"),
        ("a.jsonl", '{"text": "x"}\n{"text": {"en": "y"}}', "'text' of record 2 is an object, not text with en; reach into it"),
        ("a.jsonl", '{"text": "x"}\n{"text": 3}', "'text' of record 2 is a number, not text"),
        ("a.jsonl", '{"text": "x"}\n{"text": oops}\n', "line 2 is not valid JSON"),
        ("a.json", '[{"text": "x"}', "not closed"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.csv", "a,b\n1,2\n", "has no column 'text': it has a, b"),
        ("a.csv", "text,b\nx,y,z\n", "line 2 has 3 fields where the header has 2"),
        ("a.txt", " \n\n", "the corpus has no text; give"),
        ("a.bin", "\x00\x01", "no text that can be read .*a.bin: binary"),
    ],
)
def test_bad_files_say_what_and_where_in_one_line(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CorpusError, match=says) as caught:
        Corpus.open([tmp_path / name])
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_bad_paths_and_options(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such file or folder"):
        Corpus.open([tmp_path / "missing"])
    with pytest.raises(CorpusError, match="matches nothing"):
        Corpus.open([f"{tmp_path}/*.txt"])
    with pytest.raises(CorpusError, match="no text"):
        Corpus.open([tmp_path])
    with pytest.raises(CorpusError, match="give --corpus"):
        Corpus.open([])
    with pytest.raises(ParameterError, match="from 0 up to"):
        Corpus.from_texts(["a"], held_out=1.0)


def test_a_changed_file_is_an_error_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a\nb\n")
    corpus = Corpus.open([path])
    path.unlink()
    with pytest.raises(CorpusError, match="changed while in use"):
        list(corpus.documents())


def test_standard_input_and_pipes_can_be_read_again_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "spool"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "spool").mkdir()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("é\nb\n".encode())))
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("from a pipe\n",))
    writer.start()
    corpus = Corpus.open(["-", tmp_path / "pipe"])
    writer.join()
    assert sorted(corpus.documents()) == sorted(corpus.documents()) == ["b", "from a pipe", "é"]
    del corpus
    assert list((tmp_path / "spool").iterdir()) == []


@QUICK
@given(texts=TEXTS, others=TEXTS, share=st.floats(0.05, 0.9))
def test_a_document_stays_on_its_side_whatever_surrounds_it(texts: list[str], others: list[str], share: float) -> None:
    filler = [f"document {i}" for i in range(300)]  # enough that no side is empty
    small, large = Corpus.from_texts(filler + texts, held_out=share), Corpus.from_texts(others + texts + filler, held_out=share)
    held = set(large.documents("held-out"))
    assert all((text in held) == (text in set(small.documents("held-out"))) for text in texts)
    assert held.isdisjoint(large.documents("train"))


@QUICK
@given(texts=TEXTS, share=st.floats(0, 0.99))
def test_sides_are_disjoint_complete_and_counted(texts: list[str], share: float) -> None:
    corpus = Corpus.from_texts(texts + texts[:3], held_out=share)  # copies stay together
    train, held, every = (list(corpus.documents(split)) for split in ("train", "held-out", "all"))
    assert not set(train) & set(held)
    assert sorted(train + held) == sorted(every) == sorted(texts + texts[:3])
    assert (corpus.count("train"), corpus.count("held-out"), corpus.count()) == (len(train), len(held), len(every))
    assert corpus.bytes_of("held-out") == sum(len(t.encode()) for t in held)
    assert corpus.size_bytes == sum(len(t.encode()) for t in every)
    if share and len(set(texts)) > 1:
        assert train
        assert held


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_the_held_out_share_is_near_the_one_asked(share: float) -> None:
    count = 20_000
    corpus = Corpus.from_texts((f"document number {i}" for i in range(count)), held_out=share)
    deviation = (count * share * (1 - share)) ** 0.5  # of a binomial draw
    assert abs(corpus.count("held-out") - count * share) < 4 * deviation


def test_small_corpora_say_what_was_done() -> None:
    single = Corpus.from_texts(["alone"], held_out=0.1)
    assert "a single document, all of it on the training side" in single.notes[0]
    low = Corpus.from_texts(["a", "b", "c"], held_out=1e-9)
    assert (low.count("held-out"), low.count("train")) == (1, 2)
    assert "one was held out" in low.notes[0]
    high = Corpus.from_texts(["a", "b", "c"], held_out=1 - 1e-9)
    assert (high.count("held-out"), high.count("train")) == (2, 1)
    assert Corpus.from_texts(["a", "b"], held_out=0).notes == []


def test_content_hash_and_order_do_not_depend_on_how_files_are_named_in_the_command(tmp_path: Path) -> None:
    for name, text in (("b.txt", "one\ntwo"), ("a.txt", "three\none"), ("c.jsonl", '{"text": "four"}')):
        (tmp_path / name).write_text(text)
    paths = sorted(tmp_path.iterdir())
    forward, backward = Corpus.open(paths), Corpus.open([*paths[::-1], tmp_path / ".." / tmp_path.name / "a.txt"])
    folder, pattern = Corpus.open([tmp_path]), Corpus.open([f"{tmp_path}/*"])
    assert len({c.sha256 for c in (forward, backward, folder, pattern)}) == 1
    assert list(forward.documents()) == list(backward.documents()) == list(folder.documents()) == list(pattern.documents())
    assert Corpus.from_texts(["one", "two", "three", "one", "four"]).sha256 == forward.sha256
    assert Corpus.from_texts(["one", "two", "three", "four"]).sha256 != forward.sha256  # copies count


def test_lone_surrogates_are_left_out_and_reported(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n{"text": "\\ud800"}\n')
    corpus = Corpus.open([tmp_path])
    assert list(corpus.documents()) == ["fine"]
    assert "1 document with lone surrogates" in corpus.skipped[0][1]


def test_a_ten_megabyte_line_is_one_document(tmp_path: Path) -> None:
    line = "wörter " * 1_500_000
    (tmp_path / "a.csv").write_text(f"text,n\n{line},1\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text(line, encoding="utf-8")
    assert read(tmp_path / "a.csv") == read(tmp_path / "b.txt") == [line]


def test_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError):
        list(read_documents(tmp_path / "missing.txt"))
