"""Tasks by name. Each reads data sets by name too, so that nothing is fetched before it is asked for.

sts, sick                    similarity of sentences: STS benchmark (test), SICK (test)
sts12, sts13, ..., sts16     similarity of sentences: SemEval by year, all its files together
words, simlex                similarity of words: WordSim-353, SimLex-999 (files of the package gensim)
semantic, syntactic          analogies of words: Google's questions on things, and on grammar (a file of gensim)
synonyms                     which of four words means the same: made of WordNet; its files must lie here already
trec                         classification of questions into six types
mr, mr-dev                   polarity of sentences on films; the second to choose by, both out of texts that the other is not asked on
cranfield                    retrieval of 1,400 abstracts by 225 queries
sts-dev                      the STS benchmark's development pairs, to choose by
wordnet                      reverse dictionary: entries of WordNet by a definition of theirs; its files must lie here already
"""

import csv
import hashlib
import io
import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from regraft import datasets
from regraft.errors import ParameterError
from regraft.tasks.labelled.named import open_named as open_labelled
from regraft.text.lexical.wordnet import PARTS, find_wordnet, read_wordnet
from regraft.text.tasks.analogies import Analogies
from regraft.text.tasks.labels import Labels
from regraft.text.tasks.retrieval import Retrieval
from regraft.text.tasks.reverse import ReverseDictionary, reverse_dictionary
from regraft.text.tasks.similarity import Similarity
from regraft.text.tasks.synonyms import Synonyms
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
    rows = [line.split("\t") for line in _of_gensim(file) if line.strip() and not line.startswith("#")]
    return [(a, b, float(score)) for a, b, score in rows]


def _of_gensim(file: str) -> list[str]:
    """Lines of a file of gensim's test data."""
    from regraft.vectors.training import import_gensim

    import_gensim()
    import gensim.test.utils

    return Path(gensim.test.utils.datapath(file)).read_text("utf-8").splitlines()


def analogies(name: str, *, grammar: bool) -> Analogies:
    """Google's questions, in lower case: five sections on things, nine on grammar."""
    found, wanted = [], False
    for line in _of_gensim("questions-words.txt"):
        if line.startswith(":"):
            wanted = line.startswith(": gram") is grammar
        elif wanted and len(words_ := line.lower().split()) == 4:
            found.append((words_[0], words_[1], words_[2], words_[3]))
    return Analogies(name, "accuracy", hashlib.sha256(repr(found).encode()).hexdigest(), tuple(found))


def synonyms(count: int = 1000) -> Synonyms:
    """Questions of WordNet: two words of one definition, and three words drawn from others that share none with the first."""
    folder = find_wordnet()
    by_definition: dict[str, list[str]] = {}
    definitions: dict[str, set[str]] = {}
    for entry, definition in read_wordnet(folder):
        if entry.isascii() and entry.isalpha():
            by_definition.setdefault(definition, []).append(entry)
            definitions.setdefault(entry, set()).add(definition)
    draw, everyone = random.Random(0), sorted(definitions)
    pairs = sorted((words_[0], words_[1]) for words_ in by_definition.values() if len(words_) > 1)
    questions = []
    for word, same in draw.sample(pairs, count):
        others = [other for other in draw.sample(everyone, 20) if not definitions[other] & definitions[word]]
        questions.append((word, same, *others[:3]))
    return Synonyms("synonyms", "accuracy", hashlib.sha256(repr(questions).encode()).hexdigest(), tuple(questions))


def polarity() -> list[tuple[str, str]]:
    """Sentences on films with 0 or 1, as their authors cut them into words."""
    lines = datasets.fetch("movie-sentences", "rt-polarity.all").read_text("latin-1").split("\n")  # its \x85 is a letter here, not an end
    return [(text.strip(), label) for label, _, text in (line.partition(" ") for line in lines) if text.strip()]


def _polarity(name: str, *, dev: bool) -> Labels:
    """A tenth of the sentences, by hash, is the test side, and another tenth the development side."""
    sides: dict[str, list[tuple[str, str]]] = {"train": [], "test": [], "dev": []}
    for text, label in polarity():
        drawn = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 16**8
        sides["test" if drawn < 0.1 else "dev" if drawn < 0.2 else "train"].append((text, label))
    sha256 = hashlib.sha256(repr(sides).encode()).hexdigest()
    return Labels(name, "accuracy", sha256, tuple(sides["train"]), tuple(sides["dev" if dev else "test"]))


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
    "semantic": lambda: analogies("semantic", grammar=False),
    "syntactic": lambda: analogies("syntactic", grammar=True),
    "synonyms": synonyms,
    "trec": _trec,
    "mr": lambda: _polarity("mr", dev=False),
    "mr-dev": lambda: _polarity("mr-dev", dev=True),
    "cranfield": cranfield,
    "sts-dev": lambda: similarity("sts-dev", stsb("dev")),
    "wordnet": wordnet,
}


def open_task(name: str) -> Task:
    """The task `name`. Raises `ParameterError` with the names there are, or `CorpusError` where its data is missing."""
    if name not in NAMED:
        raise ParameterError(f"unknown task '{name}': choose from {', '.join(NAMED)}, or give a file or folder")
    return NAMED[name]()
