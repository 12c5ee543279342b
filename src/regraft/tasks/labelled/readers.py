"""A user's own labelled files, by their ending.

    tagging          CoNLL (.conll, .bio, .iob, .iob2, .tsv, .txt), BRAT (a folder, or .ann beside .txt), .jsonl with `tokens` and `tags`
    coding           .csv, .tsv, .jsonl: a text column and a column of labels (a list, or text with ; or | between labels)
    classification   the same with one label

Every reader gives examples in the order of the file, and raises `TaskError` with the line at fault.
"""

import csv
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from regraft.corpus.readers import UnreadableError, open_text
from regraft.errors import TaskError
from regraft.tasks.labelled.brat import read_brat
from regraft.tasks.labelled.examples import OUTSIDE, Example, Kind, Labelled, LabelledData, Tagged, split_by_hash

TAG = re.compile(r"(O|[BIES]-\S+)\Z")
TABLES = (".csv", ".tsv")
RECORDS = (".jsonl", ".ndjson")
COLUMNS = (".conll", ".bio", ".iob", ".iob2", ".tsv", ".txt")
BETWEEN = re.compile(r"\s*[;|]\s*")
TEXT, LABELS, LABEL = "text", "labels", "label"


def open_labelled(
    kind: Kind,
    labelled: str | Path,
    test: str | Path | None = None,
    *,
    held_out: float = 0.2,
    text_column: str | None = None,
    label_column: str | None = None,
) -> LabelledData:
    """Labelled data of a user: a file (or BRAT folder) to train on, and one to test by.

    Without `test`, a `held_out` share of the examples is kept for it, by the hash of each text. Columns are called "text" and "labels"
    ("label" in classification) unless said otherwise.

    Raises `TaskError` for a file that is missing, of another format, or without labels.
    """
    train = tuple(read_examples(kind, Path(labelled), text_column, label_column))
    name, notes = Path(labelled).name, []
    if not train:
        raise TaskError(f"{labelled}: no examples in it: give a file with labelled documents")
    if test is not None:
        held = tuple(read_examples(kind, Path(test), text_column, label_column))
        seen = {example.text for example in train}
        both = sum(example.text in seen for example in held)
        if both:
            notes.append(f"{both} of {len(held)} test examples are also in {labelled}: scores are too good by them")
    else:
        if not 0 < held_out < 1:
            raise TaskError(f"--held-out {held_out:g}: give a share between 0 and 1, or a file to test by (--test-labels)")
        train, held = split_by_hash(train, held_out)
        if not train or not held:
            raise TaskError(f"{labelled}: {len(train) + len(held)} examples are too few to hold some out: give --test-labels")
    data = LabelledData(name, kind, train, held)
    if data.unseen:
        some = ", ".join(data.unseen[:3])
        notes.append(f"{len(data.unseen)} labels of the test side are never trained on and can only be missed: {some}")
    return LabelledData(name, kind, train, held, tuple(notes))


def read_examples(kind: Kind, path: Path, text_column: str | None = None, label_column: str | None = None) -> Iterator[Example]:
    """Every example of one file or folder. Raises `TaskError`."""
    if not path.exists():
        raise TaskError(f"{path}: no such file or folder: give labelled examples with --labels")
    suffix = path.suffix.lower()
    try:
        if kind == "tagging":
            yield from _read_tagged(path, suffix)
        elif suffix in (*TABLES, *RECORDS):
            names = (text_column or TEXT, label_column or (LABEL if kind == "classification" else LABELS))
            rows = _read_table(path, names) if suffix in TABLES else _read_records(path, names)
            for where, text, labels in rows:
                if kind == "classification" and len(labels) != 1:
                    raise TaskError(f"{path}, {where}: {len(labels)} labels where classification has one a text: use --task coding")
                yield Labelled(text, labels)
        else:
            raise TaskError(f"{path}: {kind} reads .csv, .tsv and .jsonl files, not '{suffix or path.name}'")
    except UnicodeDecodeError as error:
        raise TaskError(f"{path}: not {error.encoding.upper()} text ({error.reason}): convert it with iconv") from None
    except (OSError, EOFError, UnreadableError) as error:
        raise TaskError(f"{path}: cannot be read ({error})") from None


def _read_tagged(path: Path, suffix: str) -> Iterator[Example]:
    if path.is_dir() or suffix == ".ann":
        yield from read_brat(path)
    elif suffix in RECORDS:
        yield from _read_tokens(path)
    elif suffix in COLUMNS:
        yield from read_conll(path)
    else:
        raise TaskError(f"{path}: tagging reads CoNLL columns ({', '.join(COLUMNS)}), BRAT folders and .jsonl, not '{suffix or path.name}'")


def read_conll(path: Path) -> Iterator[Tagged]:
    """Sentences of a column file: the word first and its tag last in a line, a blank line between sentences."""
    words: list[str] = []
    tags: list[str] = []
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            columns = line.split()
            if columns and columns[0] != "-DOCSTART-":
                if len(columns) == 1 or not TAG.match(columns[-1]):
                    raise TaskError(f"{path}, line {number}: '{line.strip()[:40]}' is not a word with a tag such as O or B-Drug")
                words.append(columns[0])
                tags.append(columns[-1])
            elif words:
                yield Tagged(tuple(words), tuple(tags))
                words, tags = [], []
    if words:
        yield Tagged(tuple(words), tuple(tags))


def _read_tokens(path: Path) -> Iterator[Tagged]:
    for number, record in _json_lines(path):
        words, tags = record.get("tokens"), record.get("tags", record.get("ner_tags"))
        if not isinstance(words, list) or not isinstance(tags, list):
            raise TaskError(f"{path}, line {number}: a sentence needs the lists 'tokens' and 'tags'; it has {_some(record)}")
        if len(words) != len(tags):
            raise TaskError(f"{path}, line {number}: {len(words)} tokens but {len(tags)} tags: they must be equally many")
        for tag in tags:
            if not isinstance(tag, str) or not TAG.match(tag):
                raise TaskError(f"{path}, line {number}: '{tag}' is not a tag such as {OUTSIDE} or B-Drug: write tags out by name")
        if words:
            yield Tagged(tuple(map(str, words)), tuple(tags))


def _read_records(path: Path, names: tuple[str, str]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for number, record in _json_lines(path):
        for name in names:
            if name not in record:
                raise TaskError(f"{path}, line {number}: no '{name}'; it has {_some(record)}: name it with --text-column or --label-column")
        text, labels = (record[name] for name in names)
        if not isinstance(text, str):
            raise TaskError(f"{path}, line {number}: '{names[0]}' is not text")
        if text.strip():
            yield f"line {number}", text, _labels(labels)


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict):
                raise TaskError(f"{path}, line {number}: not a JSON object: write one example a line")
            yield number, record


def _read_table(path: Path, names: tuple[str, str]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default refuses texts past 128 kB
    with open_text(path, newline="") as file:
        rows = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            header = next(rows, [])
            for name in names:
                if name not in header:
                    raise TaskError(
                        f"{path}: no column '{name}'; it has {_some(header)}: name the columns with --text-column and --label-column"
                    )
            places = [header.index(name) for name in names]
            for row in rows:
                if row and len(row) != len(header):
                    raise TaskError(f"{path}, line {rows.line_num}: {len(row)} fields where the header has {len(header)}")
                if row and row[places[0]].strip():
                    yield f"line {rows.line_num}", row[places[0]], _labels(row[places[1]])
        except csv.Error as error:
            raise TaskError(f"{path}, line {rows.line_num}: {error}") from None


def _labels(value: Any) -> tuple[str, ...]:
    """A list of labels, or text with ; or | between them; repeats and blanks dropped."""
    if value is None:
        return ()
    parts: Sequence[Any] = value if isinstance(value, list) else BETWEEN.split(str(value))
    return tuple(dict.fromkeys(label for label in (str(part).strip() for part in parts) if label))


def _some(names: Any, limit: int = 6) -> str:
    shown = [f"'{name}'" for name in names][:limit]
    return ", ".join(shown) or "nothing"
