"""Tasks by name. Each reads data sets by name too, so that nothing is fetched before it is asked for.

sts, sick                    similarity of sentences: STS benchmark (test), SICK (test)
sts12, sts13, ..., sts16     similarity of sentences: SemEval by year, all its files together
words, simlex                similarity of words: WordSim-353, SimLex-999 (files of the package gensim)
trec                         classification of questions into six types
cranfield                    retrieval of 1,400 abstracts by 225 queries
sts-dev                      the STS benchmark's development pairs, to choose by
wordnet                      reverse dictionary: entries of WordNet by a definition of theirs; its files must lie here already
"""

import csv
import hashlib
import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from regraft import datasets
from regraft.errors import ParameterError
from regraft.tasks.labelled.named import open_named as open_labelled
from regraft.text.lexical.wordnet import PARTS, find_wordnet, read_wordnet
from regraft.text.tasks.labels import Labels
from regraft.text.tasks.retrieval import Retrieval
from regraft.text.tasks.reverse import ReverseDictionary, reverse_dictionary
from regraft.text.tasks.similarity import Similarity
from regraft.text.tasks.task import Task

Scored = tuple[str, str, float]


def stsb(split: str) -> list[Scored]:
    """Sentence pairs of the STS benchmark with similarity from 0 to 5; `split` is train, dev or test."""
    text = datasets.fetch("stsb", f"{split}.csv").read_text("utf-8")
    return [(a, b, float(score)) for a, b, score in csv.reader(io.StringIO(text))]


def sick(split: str) -> list[Scored]:
    """Sentence pairs of SICK with relatedness from 1 to 5; `split` is train, trial or test."""
    file = {"train": "SICK_train.txt", "trial": "SICK_trial.txt", "test": "SICK_test_annotated.txt"}[split]
    rows = [line.split("\t") for line in datasets.fetch("sick", file).read_text("utf-8").splitlines()[1:]]
    return [(row[1], row[2], float(row[3])) for row in rows]


def semeval(year: int) -> list[Scored]:
    """All test pairs of one year; those without a judgement are left out."""
    found = []
    for file in sorted(name for name in datasets.files("sts-2012-2016") if name.startswith(f"{year}.")):
        for line in datasets.fetch("sts-2012-2016", file).read_text("utf-8").splitlines():
            score, a, b = ([*line.split("\t"), "", ""])[:3]
            if score.strip():
                found.append((a, b, float(score)))
    return found


def words(file: str) -> list[Scored]:
    """Pairs of words with the judgement of people, from a file of gensim's test data."""
    from regraft.vectors.training import import_gensim

    import_gensim()
    import gensim.test.utils

    lines = Path(gensim.test.utils.datapath(file)).read_text("utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line.strip() and not line.startswith("#")]
    return [(a, b, float(score)) for a, b, score in rows]


def cranfield() -> Retrieval:
    """Titles and abstracts; qrels count queries by their place in the file, not by the number that stands beside them."""
    files = [datasets.fetch("cranfield", file) for file in ("cran.all.1400.xml", "cran.qry.xml", "cranqrel.trec.txt")]
    documents, asked, judged = (file.read_text("utf-8") for file in files)
    corpus = {
        number: " ".join(text.split())
        for number, text in re.findall(r"<docno>\s*(\d+)\s*</docno>.*?<text>(.*?)</text>", documents, flags=re.DOTALL)
    }
    queries = {str(at): " ".join(text.split()) for at, text in enumerate(re.findall(r"<title>(.*?)</title>", asked, re.DOTALL), 1)}
    relevant: dict[str, dict[str, float]] = {}
    for query, _, document, grade in (line.split() for line in judged.splitlines() if line.strip()):
        if float(grade) > 0:
            relevant.setdefault(query, {})[document] = 1.0
    asked_of = {query: text for query, text in queries.items() if query in relevant}
    return Retrieval("cranfield", "nDCG@10", digest(files), asked_of, corpus, relevant)


def digest(files: Iterable[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def similarity(name: str, scored: list[Scored]) -> Similarity:
    sha256 = hashlib.sha256(repr(scored).encode()).hexdigest()
    return Similarity(name, "Spearman", sha256, tuple((a, b) for a, b, _ in scored), tuple(score for *_, score in scored))


def wordnet() -> ReverseDictionary:
    folder = find_wordnet()
    return reverse_dictionary("wordnet", read_wordnet(folder), digest([folder / f"data.{part}" for part in PARTS]))


def _trec() -> Labels:
    data = open_labelled("trec-6")
    sides = [tuple((one.text, one.labels[0]) for one in side) for side in (data.train, data.test)]
    return Labels("trec", "accuracy", data.sha256(), *sides)


NAMED: dict[str, Callable[[], Task]] = {
    "sts": lambda: similarity("sts", stsb("test")),
    "sick": lambda: similarity("sick", sick("test")),
    "sts12": lambda: similarity("sts12", semeval(2012)),
    "sts13": lambda: similarity("sts13", semeval(2013)),
    "sts14": lambda: similarity("sts14", semeval(2014)),
    "sts15": lambda: similarity("sts15", semeval(2015)),
    "sts16": lambda: similarity("sts16", semeval(2016)),
    "words": lambda: similarity("words", words("wordsim353.tsv")),
    "simlex": lambda: similarity("simlex", words("simlex999.txt")),
    "trec": _trec,
    "cranfield": cranfield,
    "sts-dev": lambda: similarity("sts-dev", stsb("dev")),
    "wordnet": wordnet,
}


def open_task(name: str) -> Task:
    """The task `name`. Raises `ParameterError` with the names there are, or `CorpusError` where its data is missing."""
    if name not in NAMED:
        raise ParameterError(f"unknown task '{name}': choose from {', '.join(NAMED)}, or give a file or folder")
    return NAMED[name]()
