"""Concept names out of annotated text: the entities of BRAT, CoNLL and PubTator files."""

import re
from collections.abc import Iterator
from pathlib import Path

from regraft.corpus.readers import UnreadableError, open_text
from regraft.datasets.term_files import open_list
from regraft.errors import OntologyError

_PUBTATOR_TITLE = re.compile(r"\S+\|[ta]\|")
_TAGGED = re.compile(r"\S+[ \t](.*[ \t])?(O|[BIES]-\S+)\s*\Z")
_BRAT_SPAN = re.compile(r"\d+ \d+(;\d+ \d+)*\Z")
_PROBE_LINES = 20


def _labels(selection: str | None) -> set[str] | None:
    return {part.strip().lower() for part in selection.split(",")} if selection else None


def read_brat(path: Path, selection: str | None = None) -> Iterator[str]:
    """Texts of the T lines of an .ann file, or of all in a folder, with a label in `selection`."""
    labels = _labels(selection)
    for file in sorted(path.glob("*.ann")) if path.is_dir() else [path]:
        with open_list(file) as lines:
            for number, line in enumerate(lines, 1):
                if not line.startswith("T"):
                    continue
                _, _, rest = line.rstrip("\n").partition("\t")
                head, separator, text = rest.partition("\t")
                label, _, span = head.partition(" ")
                if not separator or not _BRAT_SPAN.match(span):
                    raise OntologyError(f"{file}, line {number}: not a BRAT entity: it should read T1<tab>Label 0 5<tab>text")
                if labels is None or label.lower() in labels:
                    yield text


def read_conll(path: Path, selection: str | None = None) -> Iterator[str]:
    """Entities of a column file: the token first and its tag (O, B-x, I-x, E-x, S-x) last in a line, a blank line between sentences."""
    labels = _labels(selection)
    entity: list[str] = []
    current = ""
    with open_list(path) as lines:
        for number, line in enumerate(lines, 1):
            columns = line.split()
            tag = columns[-1] if columns else "O"
            if len(columns) == 1 or (columns and not re.match(r"(O|[BIES]-\S+)\Z", tag) and not line.startswith("-DOCSTART-")):
                raise OntologyError(f"{path}, line {number}: '{line.strip()[:40]}' is not a token with a tag such as O or B-Drug")
            begin, _, label = tag.partition("-")
            if entity and (begin not in ("I", "E") or label != current):
                yield " ".join(entity)
                entity = []
            if columns and label and (labels is None or label.lower() in labels):
                entity.append(columns[0])
                current = label
    if entity:
        yield " ".join(entity)


def looks_like_pubtator(path: Path) -> bool:
    """Whether the first line with text begins a PubTator document (`123|t|Title`)."""
    return bool(_PUBTATOR_TITLE.match(next(_first_lines(path), "")))


def looks_like_conll(path: Path) -> bool:
    """Whether each of the first lines with text is a token with a tag, whatever the file is called."""
    lines = list(_first_lines(path))
    return len(lines) > 1 and all(map(_TAGGED.match, lines))


def _first_lines(path: Path) -> Iterator[str]:
    try:
        with open_text(path) as file:
            yield from (line for _, line in zip(range(_PROBE_LINES), file, strict=False) if line.strip())
    except (OSError, EOFError, UnicodeDecodeError, UnreadableError):
        return  # the reader of plain lists says what is wrong


def read_pubtator(path: Path, selection: str | None = None) -> Iterator[str]:
    """Mentions of a PubTator file whose type is in `selection`; relation lines and composite ids are passed over."""
    labels = _labels(selection)
    with open_list(path) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip() or _PUBTATOR_TITLE.match(line):
                continue
            columns = line.rstrip("\n").split("\t")
            if len(columns) < 2:
                raise OntologyError(f"{path}, line {number}: neither a PubTator title, text nor annotation: check the file")
            if len(columns) >= 5 and columns[1].isdigit() and columns[2].isdigit() and (labels is None or columns[4].lower() in labels):
                yield columns[3]
