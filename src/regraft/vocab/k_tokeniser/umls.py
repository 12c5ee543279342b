"""Concept names out of the UMLS Metathesaurus: MRCONSO.RRF (names) and MRSTY.RRF (semantic types).

Columns are numbered as in the UMLS reference manual, from 0: MRCONSO has CUI 0, LAT 1, STR 14, SUPPRESS 16; MRSTY has CUI 0, TUI 1, STY 3.
"""

from collections.abc import Iterator
from pathlib import Path

from regraft.datasets.term_files import open_list
from regraft.errors import OntologyError

CONSO_FIELDS, STY_FIELDS = 18, 6
LANGUAGE = "ENG"


def find_rrf(folder: Path, table: str) -> Path | None:
    """`table`.RRF in `folder`, gzipped or not."""
    names = (f"{table}.RRF", f"{table}.RRF.gz", f"{table.lower()}.rrf")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_umls(path: Path, selection: str | None = None) -> Iterator[str]:
    """English names that are not suppressed, of the concepts whose semantic type is in `selection`.

    `selection` lists types by TUI or by name ("T121,Clinical Drug"); without one, every concept is taken and MRSTY is not needed.
    """
    folder = path if path.is_dir() else path.parent
    conso = find_rrf(folder, "MRCONSO")
    if conso is None:
        raise OntologyError(f"{folder}: no MRCONSO.RRF: give the META folder of a UMLS release")
    wanted = _concepts(folder, selection) if selection else None
    for row in _rows(conso, CONSO_FIELDS):
        if row[1] == LANGUAGE and row[16] in ("", "N") and (wanted is None or row[0] in wanted):
            yield row[14]


def _concepts(folder: Path, selection: str) -> set[str]:
    """Concept ids of the selected semantic types."""
    sty = find_rrf(folder, "MRSTY")
    if sty is None:
        raise OntologyError(f"{folder}: no MRSTY.RRF, which says the semantic type of each concept: put it beside MRCONSO.RRF")
    types = {part.strip().lower() for part in selection.split(",") if part.strip()}
    found: set[str] = set()
    met: set[str] = set()
    for row in _rows(sty, STY_FIELDS):
        named = types & {row[1].lower(), row[3].lower()}
        if named:
            found.add(row[0])
            met |= named
    if missing := sorted(types - met):
        raise OntologyError(f"{sty}: no concept of semantic type '{missing[0]}': give a TUI such as T121, or a type's full name")
    return found


def _rows(path: Path, fields: int) -> Iterator[list[str]]:
    with open_list(path, newline="\n") as file:
        for number, line in enumerate(file, 1):
            row = line.rstrip("\r\n").split("|")
            if len(row) < fields:
                raise OntologyError(f"{path}, line {number}: {len(row)} fields where an RRF row has {fields}: fetch the file again")
            yield row
