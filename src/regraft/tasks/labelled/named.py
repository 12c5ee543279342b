"""Labelled data with a name: the open entity corpora and question types of `regraft data`, and codes out of an installed package.

ncbi-disease, bc5cdr         entity tagging (diseases; chemicals and diseases) in PubMed abstracts, with their own test sides
trec-6                       classification of questions into six types
icd-10-chapters, -blocks     classification of ICD-10-CM descriptions into 22 chapters or some 280 blocks
icd-10-notes                 coding: problem lists of several descriptions, each with the blocks of all of them
"""

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from regraft import datasets
from regraft.datasets.packages import import_package
from regraft.errors import TaskError
from regraft.tasks.labelled.examples import Kind, Labelled, LabelledData
from regraft.tasks.labelled.readers import read_conll

CODES_EACH = 4  # leaf descriptions drawn from a category, so that a category with hundreds of injury codes does not rule the task
TRAINED = 4_000
TESTED = 1_500
HELD_OUT = 0.3  # share of the categories of each chapter
FUNCTION_WORDS = {"a", "an", "and", "as", "by", "for", "in", "not", "of", "on", "or", "the", "to", "with"}
NOTES, NOTES_TESTED, LEAST, MOST = 1_500, 400, 3, 8


def _tagged(name: str) -> LabelledData:
    train, test = (tuple(read_conll(datasets.fetch(name, file))) for file in ("train.tsv", "test.tsv"))
    return LabelledData(name, "tagging", train, test)


def _questions() -> LabelledData:
    def read(path: Path) -> Iterable[Labelled]:
        for line in path.read_text(encoding="latin-1").strip("\n").split("\n"):  # splitlines also cuts at \x85
            label, _, text = line.partition(" ")
            yield Labelled(text.strip(), (label,))

    train, test = (tuple(read(datasets.fetch("trec-6", file))) for file in ("train.all", "test.all"))
    return LabelledData("trec-6", "classification", train, test)


def icd_split(seed: int = 0) -> tuple[list[str], list[str]]:
    """Three-character categories of ICD-10-CM on the training and on the test side; each chapter gives the same share to both."""
    icd = import_package("simple_icd_10_cm", "simple-icd-10-cm")
    chapters: dict[str, list[str]] = defaultdict(list)
    for code in icd.get_all_codes():
        if icd.is_category(code):
            chapters[icd.get_ancestors(code)[-1]].append(code)
    draw, train, test = random.Random(seed), [], []
    for codes in chapters.values():
        shuffled = draw.sample(codes, len(codes))
        border = round(HELD_OUT * len(codes))
        test += shuffled[:border]
        train += shuffled[border:]
    return sorted(train), sorted(test)


def icd_descriptions(categories: Sequence[str], level: str, seed: int = 0) -> list[Labelled]:
    """Up to four leaf descriptions a category, labelled with their chapter or block, without the words of that title; shuffled."""
    icd = import_package("simple_icd_10_cm", "simple-icd-10-cm")
    draw, found = random.Random(seed), []
    for category in categories:
        ancestors = icd.get_ancestors(category)
        above = ancestors[-1] if level == "chapter" else ancestors[0]
        taken = set(_words(icd.get_description(above)))
        leaves = [code for code in [category, *icd.get_descendants(category)] if icd.is_leaf(code)]
        for code in draw.sample(leaves, min(CODES_EACH, len(leaves))):
            kept = [word for word in icd.get_description(code).split() if not set(_words(word)) & taken]
            if kept:
                found.append(Labelled(" ".join(kept), (above,)))
    return draw.sample(found, len(found))


def _words(text: str) -> list[str]:
    """Lower-case words that could give a title away."""
    return [word for word in re.findall(r"[a-z]+", text.lower()) if word not in FUNCTION_WORDS]


def _icd(level: str) -> LabelledData:
    train, test = (icd_descriptions(side, level) for side in icd_split())
    name = f"icd-10-{level}s"
    return LabelledData(name, "classification", tuple(train[:TRAINED]), tuple(test[:TESTED]))


def _notes() -> LabelledData:
    sides = []
    for seed, (categories, count) in enumerate(zip(icd_split(), (NOTES, NOTES_TESTED), strict=True)):
        single, draw = icd_descriptions(categories, "block"), random.Random(seed)
        notes = []
        for _ in range(count):
            chosen = draw.sample(single, draw.randint(LEAST, MOST))
            labels = tuple(sorted({label for example in chosen for label in example.labels}))
            notes.append(Labelled(". ".join(example.text for example in chosen) + ".", labels))
        sides.append(tuple(notes))
    return LabelledData("icd-10-notes", "coding", sides[0], sides[1])


NAMED: dict[str, tuple[Kind, Callable[[], LabelledData]]] = {
    "ncbi-disease": ("tagging", lambda: _tagged("ncbi-disease")),
    "bc5cdr": ("tagging", lambda: _tagged("bc5cdr")),
    "trec-6": ("classification", _questions),
    "icd-10-chapters": ("classification", lambda: _icd("chapter")),
    "icd-10-blocks": ("classification", lambda: _icd("block")),
    "icd-10-notes": ("coding", _notes),
}


def open_named(name: str) -> LabelledData:
    """The labelled data called `name`. Raises `TaskError` for another name, and what fetching it raises."""
    if name not in NAMED:
        raise TaskError(f"no labelled data is called '{name}': choose one of {', '.join(NAMED)}")
    return NAMED[name][1]()
