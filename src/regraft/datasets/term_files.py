"""Concept names out of files: lists, tables, and ontologies in OBO, OWL and OBO graph JSON."""

import csv
import io
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from regraft.corpus.readers import UnreadableError, open_bytes, open_text
from regraft.errors import OntologyError

NAME_COLUMNS = ("name", "term", "label", "concept", "phrase", "text", "str", "description", "title")


@contextmanager
def open_list(path: Path, newline: str | None = None) -> Iterator[IO[str]]:
    """Text of an ontology file; anything that cannot be read becomes an `OntologyError` that names the file."""
    try:
        with open_text(path, newline=newline) as file:
            yield file
    except UnreadableError as error:
        raise OntologyError(f"{path}: {error.why}: give UTF-8 text") from None
    except UnicodeDecodeError as error:
        raise OntologyError(
            f"{path}: not {error.encoding.upper()} text ({error.reason}): convert it, for example with iconv -t UTF-8"
        ) from None
    except (OSError, EOFError) as error:
        raise OntologyError(f"{path}: cannot be read ({error}): give another file") from None


def read_lines(path: Path, selection: str | None = None) -> Iterator[str]:
    """A phrase a line."""
    if selection:
        raise OntologyError(f"{path}: a plain list has nothing to choose '{selection}' from: drop the part behind #")
    with open_list(path) as file:
        yield from file


def read_table(path: Path, selection: str | None = None) -> Iterator[str]:
    """Cells of the columns named in `selection` ("name,synonyms"); a cell may hold several phrases between "|".

    Without a selection the only column is taken, or the first that is called `name`, `term`, `label` or the like.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    delimiter = "\t" if ".tsv" in path.name.lower() else ","
    with open_list(path, newline="") as file:
        rows = csv.reader(file, delimiter=delimiter)
        try:
            header = next(rows, [])
            places = [header.index(column) for column in _columns(path, header, selection)]
            for row in rows:
                for place in places:
                    if place < len(row):
                        yield from row[place].split("|")
        except csv.Error as error:
            raise OntologyError(f"{path}, line {rows.line_num}: {error}: mend the line, or give a plain list") from None


def _columns(path: Path, header: list[str], selection: str | None) -> list[str]:
    if selection:
        wanted = [column.strip() for column in selection.split(",")]
        missing = [column for column in wanted if column not in header]
        if missing:
            raise OntologyError(f"{path}: no column '{missing[0]}': it has {', '.join(header[:12]) or 'none'}")
        return wanted
    if len(header) == 1:
        return header
    named = [column for column in header if column.strip().lower() in NAME_COLUMNS]
    if not named:
        raise OntologyError(f"{path}: which column holds the names? write {path.name}#COLUMN; it has {', '.join(header[:12]) or 'none'}")
    return sorted(named, key=lambda column: NAME_COLUMNS.index(column.strip().lower()))[:1]


def read_terms(path: Path, selection: str | None = None) -> Iterator[str]:
    """Names and synonyms of an OBO, OWL or OBO graph JSON file, obsolete terms left out; of the terms under root `selection` if given."""
    ontology = load_terms(path)
    terms = ontology.terms()
    if selection:
        if selection not in ontology:
            raise OntologyError(f"{path}: no term '{selection}' to start from: give the id of a term, such as HP:0000118")
        terms = ontology[selection].subclasses()
    for term in terms:
        if not term.obsolete:
            yield term.name or ""
            yield from sorted(synonym.description for synonym in term.synonyms)


def load_terms(path: Path) -> Any:
    """The ontology in an OBO, OWL or OBO graph JSON file, as pronto reads it. Raises `OntologyError`."""
    try:
        from pronto import Ontology  # type: ignore[attr-defined]
    except ImportError:
        raise OntologyError(f"{path}: reading OBO and OWL needs pronto: pip install 'regraft[ontology]'") from None
    try:
        with open_bytes(path) as file:
            content = file.read()
        content.decode("utf-8")  # pronto would guess another encoding and read on
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of references and encodings: none changes a name
            return Ontology(io.BytesIO(content), import_depth=0, threads=1)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise OntologyError(f"{path}, line {line}: not UTF-8 text ({error.reason}): convert it, for example with iconv -t UTF-8") from None
    except (Exception, SystemExit) as error:  # its parsers raise of every kind
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise OntologyError(f"{path}: not an OBO, OWL or OBO graph file that can be read ({said}): check the file") from None
