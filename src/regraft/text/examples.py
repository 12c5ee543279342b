"""Examples to train encoders on, as `datasets.Dataset`, from files or by name.

    scored     sentence1, sentence2, score       score as given; losses that want 0 to 1 scale it by the highest
    pairs      anchor, positive [, negative, negative_2, ...]
    labelled   text, label
    entries    entry, definition                 a dictionary: one row a definition
    texts      text

By name: sts, sick (scored, training side), trec (labelled), wordnet (entries; its files must lie here already, wordnet:FOLDER says where).
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from regraft.errors import CorpusError, ParameterError
from regraft.text.lexical.dictionary import hold_out
from regraft.text.lexical.wordnet import find_wordnet, read_wordnet
from regraft.text.tasks.files import read_rows
from regraft.text.tasks.named import open_task, sick, stsb
from regraft.text.tasks.reverse import SHARE
from regraft.text.tuner import Kind

COLUMNS: dict[Kind, tuple[str, ...]] = {
    "scored": ("sentence1", "sentence2", "score"),
    "pairs": ("anchor", "positive"),
    "labelled": ("text", "label"),
    "entries": ("entry", "definition"),
    "texts": ("text",),
}


def _scored(rows: Sequence[tuple[str, str, float]]) -> list[dict[str, Any]]:
    return [dict(zip(COLUMNS["scored"], row, strict=True)) for row in rows]


def _questions() -> list[dict[str, Any]]:
    return [{"text": text, "label": label} for text, label in open_task("trec").train]  # type: ignore[attr-defined]  # a Labels


def _wordnet(folder: str = "") -> list[dict[str, Any]]:
    """Without the entries that the task `wordnet` asks for."""
    train, _, _ = hold_out(read_wordnet(find_wordnet(folder)), SHARE)
    return [dict(zip(COLUMNS["entries"], pair, strict=True)) for pair in train]


NAMED: dict[str, tuple[Kind, Callable[[], list[dict[str, Any]]]]] = {
    "sts": ("scored", lambda: _scored(stsb("train"))),
    "sick": ("scored", lambda: _scored(sick("train"))),
    "trec": ("labelled", _questions),
    "wordnet": ("entries", _wordnet),
}


def read_examples(sources: Sequence[str], takes: Sequence[Kind]) -> tuple[Dataset, Kind]:
    """Examples of several files or names together, and their kind, the first of `takes` whose columns all of them have.

    Raises `ParameterError` for an unknown name, `CorpusError` for columns that are missing, empty texts, scores that are no numbers.
    """
    rows: list[dict[str, Any]] = []
    for source in sources:
        found = _wordnet(source.removeprefix("wordnet:")) if source.startswith("wordnet:") else _rows(source)
        if not found:
            raise CorpusError(f"{source}: no examples in it")
        rows += found
    columns = set.intersection(*(set(row) for row in rows))
    kind = next((kind for kind in takes if set(COLUMNS[kind]) <= columns), None)
    if kind is None:
        wanted = " or ".join(", ".join(COLUMNS[kind]) for kind in takes)
        raise CorpusError(f"{', '.join(sources)}: columns {', '.join(sorted(columns)) or 'none'}: this method learns from {wanted}")
    names = [*COLUMNS[kind], *sorted(name for name in columns if kind == "pairs" and name.startswith("negative"))]
    return Dataset.from_list([_row(row, names, number) for number, row in enumerate(rows, 1)]), kind


def digest(examples: Dataset) -> str:
    """SHA-256 of the examples in their order."""
    return hashlib.sha256(json.dumps(examples[:], ensure_ascii=False).encode()).hexdigest()


def _rows(source: str) -> list[dict[str, Any]]:
    return NAMED[source][1]() if source in NAMED else list(read_rows(_file(source)))


def _row(row: dict[str, Any], names: Sequence[str], number: int) -> dict[str, Any]:
    found = {name: row[name] for name in names}
    for name, value in found.items():
        if name == "score":
            try:
                found[name] = float(value)
            except (TypeError, ValueError):
                raise CorpusError(f"example {number}: score {value!r} is no number") from None
        elif not isinstance(value, str) or not value.strip():
            raise CorpusError(f"example {number}: {name} is empty: give text, or leave the example out")
    return found


def _file(source: str) -> Path:
    if not Path(source).is_file():
        raise ParameterError(f"{source}: no such file; examples by name are {', '.join(NAMED)}")
    return Path(source)
