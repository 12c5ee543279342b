"""BRAT stand-off annotation as tagged sentences: a text file, and beside it an .ann file that names spans of its characters."""

import re
from collections.abc import Iterator
from pathlib import Path

from regraft.corpus.readers import open_text
from regraft.errors import TaskError
from regraft.tasks.labelled.examples import Tagged
from regraft.tasks.spans import Span, tags_of

WORD = re.compile(r"\w+|[^\w\s]")
SPAN = re.compile(r"(\d+) (\d+)")
Entity = tuple[int, int, str]  # first character, character behind the last, label


def read_brat(path: Path) -> Iterator[Tagged]:
    """Each line of each annotated text as a sentence of words and marks; an entity is the words that it covers any part of.

    Of an entity in several fragments each fragment is one; where entities nest, the outer one stays. Raises `TaskError` where a text is
    missing or is not the one that was annotated.
    """
    files = sorted(path.glob("*.ann")) if path.is_dir() else [path]
    if not files:
        raise TaskError(f"{path}: a folder without .ann files: tagging reads BRAT folders, CoNLL files and .jsonl")
    for file in files:
        beside = file.with_suffix(".txt")
        if not beside.is_file():
            raise TaskError(f"{beside}: missing, but {file.name} annotates it: put the text beside its annotation")
        with open_text(beside, newline="") as source:
            text = source.read()
        yield from _sentences(text, list(read_entities(file, text)))


def read_entities(file: Path, text: str) -> Iterator[Entity]:
    """Spans of the T lines, checked against `text`."""
    with open_text(file) as lines:
        for number, line in enumerate(lines, 1):
            if not line.startswith("T"):
                continue
            _, _, rest = line.rstrip("\r\n").partition("\t")
            head, separator, said = rest.partition("\t")
            label, _, places = head.partition(" ")
            fragments = [(int(start), int(end)) for start, end in SPAN.findall(places)]
            if not separator or not fragments:
                raise TaskError(f"{file}, line {number}: not a BRAT entity: it should read T1<tab>Label 0 5<tab>text")
            found = " ".join(text[start:end] for start, end in fragments)
            if found.split() != said.split():
                raise TaskError(f"{file}, line {number}: its text '{said[:30]}' is '{found[:30]}' in the text file: not the file annotated")
            yield from ((start, end, label) for start, end in fragments)


def _sentences(text: str, entities: list[Entity]) -> Iterator[Tagged]:
    begin = 0
    for line in text.splitlines(keepends=True):
        words = [(begin + match.start(), begin + match.end()) for match in WORD.finditer(line)]
        if words:
            spans: set[Span] = set()
            for start, end, label in entities:
                inside = [i for i, (first, last) in enumerate(words) if first < end and last > start]
                if inside:
                    spans.add((inside[0], inside[-1] + 1, label))
            yield Tagged(tuple(text[first:last] for first, last in words), tuple(tags_of(spans, len(words))))
        begin += len(line)
