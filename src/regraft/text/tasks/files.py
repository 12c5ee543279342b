"""Tasks out of the user's files.

pairs.csv, .tsv, .jsonl      sentence1, sentence2, score: similarity
labels.csv, .tsv, .jsonl     text, label: classification; a fifth of the texts, by hash, is the test side
entries.csv, .tsv, .jsonl    entry, definition: reverse dictionary; a fifth of the entries with two definitions, by hash, is asked for
folder/                      corpus.jsonl, queries.jsonl, qrels.tsv or qrels/test.tsv: retrieval, as BEIR and mteb write it
"""

import csv
import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regraft.corpus.readers import UnreadableError, json_values, open_text
from regraft.errors import CorpusError, ParameterError
from regraft.text.tasks.labels import Labels
from regraft.text.tasks.named import NAMED, digest, open_task, similarity
from regraft.text.tasks.retrieval import Retrieval
from regraft.text.tasks.reverse import reverse_dictionary
from regraft.text.tasks.task import Task

PAIRS = ("sentence1", "sentence2", "score")
LABELS = ("text", "label")
ENTRIES = ("entry", "definition")
TEST_SHARE = 0.2


def open_any(written: str) -> Task:
    """A task by name, or out of a file or folder."""
    written = written.strip()
    is_path = written not in NAMED and (Path(written).exists() or "/" in written or Path(written).suffix != "")
    return open_file(Path(written)) if is_path else open_task(written)


def open_file(path: Path) -> Task:
    """The task in `path`; which kind it is follows from its columns. Raises `CorpusError` that says what is missing."""
    if path.is_dir():
        return _retrieval(path)
    if not path.is_file():
        raise ParameterError(f"{path}: no such task file or folder")
    rows = list(read_rows(path))
    columns = set(rows[0]) if rows else set()
    if set(PAIRS) <= columns:
        return similarity(
            path.stem, [(row["sentence1"], row["sentence2"], _number(row["score"], path, n)) for n, row in enumerate(rows, 1)]
        )
    if set(LABELS) <= columns:
        return _labels(path, [(str(row["text"]), str(row["label"])) for row in rows])
    if set(ENTRIES) <= columns:
        return reverse_dictionary(path.stem, [(str(row["entry"]), str(row["definition"])) for row in rows], digest([path]))
    some = ", ".join(sorted(columns)) or "none"
    raise CorpusError(f"{path}: columns {some}: a task has {', '.join(PAIRS)} or {', '.join(LABELS)} or {', '.join(ENTRIES)}")


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a .csv or .tsv with a header, or objects of a .jsonl, by column. Raises `CorpusError`: unreadable, ragged, no objects."""
    suffix = path.suffix.lower()
    try:
        if suffix in (".jsonl", ".ndjson", ".json"):
            for number, found in enumerate(json_values(path), 1):
                if not isinstance(found, dict):
                    raise CorpusError(f"{path}, record {number}: not an object with named fields")
                yield found
            return
        with open_text(path, newline="") as file:
            reader = csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ",")
            for number, row in enumerate(reader, 2):
                if None in row or None in row.values():
                    raise CorpusError(f"{path}, line {number}: not as many cells as the header has names")
                yield dict(row)
    except (UnreadableError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path}: cannot be read ({getattr(error, 'why', error)})") from None


def _number(value: Any, path: Path, number: int) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise CorpusError(f"{path}, row {number}: score {value!r} is no number")
    return found


def _labels(path: Path, rows: list[tuple[str, str]]) -> Labels:
    """Equal texts come to the same side."""

    def is_test(text: str) -> bool:
        return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) < TEST_SHARE * 16**8

    train, test = (tuple(row for row in rows if is_test(row[0]) is side) for side in (False, True))
    known = {label for _, label in train}
    if len(known) < 2 or not test:
        raise CorpusError(f"{path}: {len(known)} label(s) on the training side, {len(test)} test texts: classification needs two and more")
    return Labels(path.stem, "accuracy", digest([path]), train, test)


def _retrieval(folder: Path) -> Retrieval:
    judged = next((one for one in (folder / "qrels.tsv", folder / "qrels" / "test.tsv") if one.is_file()), folder / "qrels.tsv")
    files = [folder / "corpus.jsonl", folder / "queries.jsonl", judged]
    for file in files:
        if not file.is_file():
            raise CorpusError(f"{folder}: no {file.name}: a retrieval task has corpus.jsonl, queries.jsonl and qrels.tsv")
    corpus, queries = ({_id(row, file): _text(row) for row in read_rows(file)} for file in files[:2])
    relevant: dict[str, dict[str, float]] = {}
    for number, row in enumerate(read_rows(judged), 2):
        query, document, grade = (row.get(name) for name in ("query-id", "corpus-id", "score"))
        if query is None or document is None:
            raise CorpusError(f"{judged}, line {number}: needs columns query-id, corpus-id, score")
        if _number(grade, judged, number) > 0 and document in corpus:
            relevant.setdefault(query, {})[document] = float(str(grade))
    asked = {query: text for query, text in queries.items() if query in relevant}
    if not asked:
        raise CorpusError(f"{folder}: no query has a relevant document of corpus.jsonl: are the ids the same in all files?")
    return Retrieval(folder.name, "nDCG@10", digest(files), asked, corpus, relevant)


def _id(row: dict[str, Any], file: Path) -> str:
    found = row.get("_id", row.get("id"))
    if found is None:
        raise CorpusError(f"{file}: an object without _id: {json.dumps(row, ensure_ascii=False)[:80]}")
    return str(found)


def _text(row: dict[str, Any]) -> str:
    return " ".join(str(row.get(name) or "") for name in ("title", "text")).strip()
