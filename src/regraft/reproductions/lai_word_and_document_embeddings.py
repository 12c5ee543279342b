"""Lai's study, tested again at the size of a laptop: does the domain of a corpus beat its size, do simple models do, when to stop, RCNN?

The study trains on up to 2.8 billion words; here on sentences on films and definitions of WordNet, half a million to a million words.
Domain: what the mean of vectors tells of a film sentence's polarity. Models: WordSim-353 after the same passes over definitions. Stopping:
12 passes of CBOW, the development task against the validation loss. RCNN: beside logistic regression on the mean of the same vectors. The
sizes of effects were declared before any full run of this script; that of the domain is the one that gensim's vectors had earlier.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regraft import datasets
from regraft.evaluation.correlation import Correlation
from regraft.evaluation.paired import Sample
from regraft.method import resolve
from regraft.progress import step
from regraft.reproductions.harness.claim import Declared, Expectation
from regraft.reproductions.harness.record import Findings, Ledger
from regraft.text.classifiers.rcnn import RCNN, predict
from regraft.text.classifiers.rcnn import fit as fit_rcnn
from regraft.text.lexical.wordnet import find_wordnet, read_wordnet
from regraft.text.tasks.named import open_task, polarity
from regraft.text.words.corpus import Words, read_words
from regraft.text.words.measuring import mean_of_words, random_vectors, table
from regraft.text.words.model import LAI
from regraft.text.words.trainer import Epoch, fit
from regraft.vectors.training import WORD


def _declared(claim: str, baseline: str, low: float = -np.inf, high: float = np.inf, metric: str = "accuracy", note: str = "") -> Declared:
    unit = {"Spearman": "correlation", "passes": "passes"}.get(metric, "share")
    return Declared(claim, baseline, Expectation(low=low, high=high), metric=metric, unit=unit, note=note)


DOMAIN = _declared(
    "polarity: vectors of film sentences are at least 3 points above those of as many words of glosses", "glosses, cut", 0.03
)
SIZE = _declared("polarity: they are at least 3 points above vectors of all glosses, about twice as many words", "all glosses", 0.03)
LEXICAL = _declared("WordSim-353: all glosses are at least 0.03 above the cut ones", "glosses, cut", 0.03, metric="Spearman")
ORDER = _declared("WordSim-353: Skip-gram is not more than 0.02 below Order", "order", -0.02, metric="Spearman")
LAYERS = _declared("WordSim-353: Skip-gram is above NNLM", "nnlm", 0.0, metric="Spearman")
SCORED = _declared("WordSim-353: Skip-gram is at least 0.05 above C&W", "cw", 0.05, metric="Spearman")
STOP = _declared(
    "the best pass by the development task is at least 1 away from that of the lowest validation loss", "the pass of the lowest loss", 1.0,
    metric="passes",
)  # fmt: skip
DOCUMENTS = _declared("polarity: an RCNN is at least 3 points above logistic regression on the mean of its vectors", "mean of words", 0.03)
CONTROL = _declared("negative control: random vectors are at least 3 points below film vectors on polarity", "film sentences", high=-0.03)
SHUFFLED = _declared(
    "negative control, glosses with all words dealt to other lines: WordSim-353 at least 0.05 lower", "all glosses", high=-0.05,
    metric="Spearman", note="What is left is how often a word occurs.",
)  # fmt: skip


@dataclass(frozen=True)
class Scale:
    """How much of everything; `words` of each text for the domain, `ordered` for the models, sentences for the RCNN."""

    seeds: int = 3
    words: int = 500_000
    ordered: int = 300_000
    everything: int = 1_100_000
    epochs: int = 3
    watched: int = 12
    sentences: int = 8_000
    documents: int = 3


QUICK = Scale(seeds=1, words=60_000, ordered=40_000, everything=150_000, epochs=1, watched=3, sentences=600, documents=1)
DIM = 50


def reproduce(quick: bool) -> Findings:
    """Run all of it: under ten processor minutes in full, under one with `quick`. Needs WordNet's files."""
    scale = QUICK if quick else Scale()
    films, glosses = film_sentences(), list(dict.fromkeys(text for _, text in read_wordnet(find_wordnet())))
    tasks = {name: open_task(name) for name in ("mr", "mr-dev", "words")}
    run = Ledger(f"film sentences and WordNet glosses, {DIM} dimensions")
    small = {name: cut(texts, scale.words) for name, texts in (("films", films), ("glosses", glosses))}
    big = cut(glosses, scale.everything)

    def many(model: str, words: Words, epochs: int) -> list[dict[str, Any]]:
        with step(f"{model} on {words.total:,} words, {scale.seeds} seeds"):
            trained = resolve("word-model", model, {"dim": DIM, "epochs": epochs})
            return [measured(words, fit(trained, words, seed=seed).vectors, tasks) for seed in range(scale.seeds)]

    inside, outside, whole = (many("skipgram", one, scale.epochs) for one in (small["films"], small["glosses"], big))
    chance = [measured(small["films"], random_vectors(small["films"], DIM, seed), tasks) for seed in range(scale.seeds)]
    dealt = many("skipgram", shuffled(big), scale.epochs)
    how = f"Skip-gram, {scale.epochs} passes, {scale.seeds} seeds"
    run.settle(DOMAIN, how, together(outside, "mr"), together(inside, "mr"))
    run.settle(SIZE, how, together(whole, "mr"), together(inside, "mr"))
    run.settle(LEXICAL, how, together(outside, "words"), together(whole, "words"))
    run.settle(CONTROL, how, together(inside, "mr"), together(chance, "mr"))
    run.settle(SHUFFLED, how, together(whole, "words"), together(dealt, "words"))
    models = cut(glosses, scale.ordered)
    by_model = {name: many(name, models, scale.epochs) for name in ("skipgram", "cbow", "order", "nnlm", "lbl", "cw", "glove")}
    how = f"{models.total:,} words of glosses, {scale.epochs} passes, {scale.seeds} seeds"
    for declared in (ORDER, LAYERS, SCORED):
        run.settle(declared, how, together(by_model[declared.baseline], "words"), together(by_model["skipgram"], "words"))
    curves = [watch(small["films"], scale.watched, seed, tasks["mr-dev"]) for seed in range(max(scale.seeds, 1))]
    lowest, best = ([pick(curve, by) for curve in curves] for by in ("validation_loss", "mr-dev"))
    apart = np.abs(np.array(lowest, float) - np.array(best, float))[:, None]
    run.settle(STOP, f"CBOW, {scale.watched} passes over film sentences", same(np.zeros_like(apart)), same(apart))
    means, networks = documents(scale, tasks["mr"])
    run.settle(DOCUMENTS, f"{scale.sentences:,} sentences to learn from, {scale.documents} seeds", means, networks)
    rows = [
        {"model": name, **{task: float(np.mean([one[task].value for one in runs])) for task in ("words", "mr")}}
        for name, runs in {"films": inside, "glosses, cut": outside, "all glosses": whole, "random": chance, **by_model}.items()
    ]
    tables: dict[str, list[dict[str, Any]]] = {"Models and texts": rows, "CBOW pass by pass, first seed": curves[0]}
    return Findings(LAI, run.claims, {"tables": tables}, tables)


def film_sentences() -> list[str]:
    """Sentences of the three collections, those of the polarity task's test side left out; no label is read."""
    lines = [text for text, _ in polarity()]
    subjectivity = datasets.fetch("movie-sentences", "subj.all").read_text("latin-1").split("\n")
    trees = datasets.fetch("movie-sentences", "sst-5.train").read_text("latin-1").split("\n")
    held = {text for text, _ in open_task("mr").test}  # type: ignore[attr-defined]  # a Labels
    return [
        text
        for text in [*lines, *(line.partition(" ")[2] for line in [*subjectivity, *trees])]
        if text.strip() and text.strip() not in held
    ]


def cut(texts: Sequence[str], most: int) -> Words:
    """The first texts, in a random order, of about `most` words."""
    order, kept, count = np.random.default_rng(0).permutation(len(texts)), [], 0
    for number in order:
        if count >= most:
            break
        kept.append(texts[number])
        count += len(WORD.findall(texts[number]))
    return read_words(kept)


def shuffled(words: Words) -> Words:
    """The same words and lengths of lines, each word at a random place."""
    tokens = np.random.default_rng(0).permutation(words.tokens)
    return Words(words.names, words.counts, tokens, words.lines, words.total, words.sha256)


def measured(words: Words, vectors: Any, tasks: dict[str, Any]) -> dict[str, Any]:
    encode = mean_of_words(table(words, vectors))
    return {name: tasks[name].measure(encode) for name in ("mr", "words")}


def together(runs: Sequence[dict[str, Any]], task: str) -> Any:
    """One measurement of several seeds."""
    found = [one[task] for one in runs]
    if isinstance(found[0], Correlation):
        return Correlation(np.concatenate([one.scores for one in found]), found[0].gold)
    return Sample(np.concatenate([one.amounts for one in found]), np.concatenate([one.sizes for one in found]))


def watch(words: Words, epochs: int, seed: int, dev: Any) -> list[dict[str, float]]:
    """Validation loss and development accuracy after each pass."""
    rows: list[dict[str, float]] = []

    def after(epoch: Epoch, vectors: Any) -> bool:
        value = dev.measure(mean_of_words(table(words, vectors))).value
        rows.append({"epoch": epoch.number, "validation_loss": float(epoch.validation or 0), "mr-dev": value})
        return False

    with step(f"CBOW, {epochs} passes, seed {seed}"):
        fit(resolve("word-model", "cbow", {"dim": DIM, "epochs": epochs}), words, seed=seed, after=after)
    return rows


def pick(curve: Sequence[dict[str, float]], by: str) -> int:
    chosen = min(curve, key=lambda row: row[by] if by == "validation_loss" else -row[by])
    return int(chosen["epoch"])


def same(amounts: Any) -> Sample:
    return Sample(amounts, np.ones_like(amounts))


def documents(scale: Scale, task: Any) -> tuple[Sample, Sample]:
    """Hits on the test side of logistic regression on means, and of an RCNN, from the same vectors of film sentences."""
    words = cut(film_sentences(), scale.words)
    train = task.train[: scale.sentences]
    means, networks = [], []
    for seed in range(scale.documents):
        with step(f"RCNN, seed {seed}"):
            vectors = fit(resolve("word-model", "skipgram", {"dim": DIM, "epochs": scale.epochs}), words, seed=seed).vectors
            smaller = type(task)(task.name, task.metric, task.sha256, train, task.test)
            means.append(smaller.measure(mean_of_words(table(words, vectors))).amounts[0])
            import torch

            torch.manual_seed(seed)
            model = RCNN(vectors, classes=2)
            fit_rcnn(model, [ids(words, text) for text, _ in train], [int(label) for _, label in train], epochs=3, seed=seed)
            found = predict(model, [ids(words, text) for text, _ in task.test])
            networks.append((found == np.array([int(label) for _, label in task.test])).astype(np.float64))
    return same(np.stack(means)), same(np.stack(networks))


def ids(words: Words, text: str) -> list[int]:
    """Known words of a text, or one padding where there is none."""
    return [words.index[word] for word in WORD.findall(text.lower()) if word in words.index] or [0]
