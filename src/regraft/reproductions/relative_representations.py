"""Relative representations, tested again: heads read encoders that they have never seen; two word tables find each other's words.

The paper stitches image and text encoders and compares fastText with word2vec. Here four encoders of digits are trained apart, and GloVe's
words are looked up in the input table of a sentence encoder, all-MiniLM-L6-v2, whose dimensions differ. What is expected was declared below
before any full run.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regraft.align.agreement import neighbor_overlap, reciprocal_ranks
from regraft.align.agreement.neighbors import ranks
from regraft.align.aligners.relative_representations import RelativeRepresentations, RelativeSpace
from regraft.align.aligners.semantic_alignment import SemanticAlignment
from regraft.align.report.agreement_figures import stitching_maps
from regraft.align.stitching import Encoded, HeadSettings, Stitching, stitching_matrix
from regraft.datasets.glove import glove
from regraft.datasets.models import encoder_folder
from regraft.progress import console, step
from regraft.report.figures import bars
from regraft.reproductions.harness.align.digit_encoders import TRAIN, digit_encoders
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.record import Findings, Ledger
from regraft.vectors.files import open_vectors


def _declared(claim: str, baseline: str, low: float, unit: str = "accuracy") -> Declared:
    metric = "mean reciprocal rank" if unit == "MRR" else unit
    return Declared(claim, baseline, Expectation(low=low), metric=metric, unit=unit)


STITCHED = _declared("stitched relative heads beat stitched absolute ones by at least 0.6", "absolute, stitched", 0.6)
NEAR_OWN = _declared("they stay within 0.06 of heads on their own encoder", "relative, own encoder", -0.06)
PRICE = _declared("the relative layer costs at most 0.01 on the own encoder", "absolute, own encoder", -0.01)
TRANSLATED = _declared("an orthogonal map on the same 100 anchors is not worse", "relative, stitched", 0.0)
CENTERED = _declared("centering on the anchors lifts retrieval by at least 0.2", "300 anchors, plain cosines (paper)", 0.2, "MRR")
MORE = _declared("768 anchors find at least 0.2 more than 50", "50 anchors, centered", 0.2, "MRR")
MAPPED = _declared("an orthogonal map on the same 768 anchors is not worse", "768 anchors, centered", 0.0, "MRR")


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    seeds: int = 3
    kinds: int = 4
    epochs: int = 30
    words: int = 8_000
    queries: int = 2_000
    anchors: tuple[int, ...] = (50, 300, 768)


QUICK = Size(seeds=1, kinds=2, epochs=8, words=3_000, queries=400)
DIGIT_ANCHORS = 100
SKIPPED, LETTERS = 300, 4  # the most frequent shared words, and words shorter than that, are left out


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 4 processor minutes in full, half of one with `quick`."""
    size = QUICK if quick else Size()
    digits = Ledger(f"scikit-learn digits, {TRAIN} training and 497 test images, {size.kinds} encoders of 64 dimensions, 100 anchors")
    stitchings = _digits(digits, size)
    words = Ledger(f"GloVe-6B-50d and all-MiniLM-L6-v2's input table (384-d), {size.words:,} shared words, random anchors")
    rows = _words(words, size)
    summaries = [{"seed": seed, **row} for seed, one in enumerate(stitchings) for row in one.summary()]
    return Findings(
        RelativeRepresentations.paper,
        digits.claims + words.claims,
        {"stitching": summaries, "words": rows},
        {"Stitching (accuracy)": summaries, "Words of GloVe found in MiniLM's table": rows},
        {
            "Accuracy, encoders by heads": stitching_maps(stitchings[0]),
            "Mean reciprocal rank": bars({row["way"]: row["mrr"] for row in rows}, title="mean reciprocal rank", ascending=False),
        },
    )


def _digits(run: Ledger, size: Size) -> list[Stitching]:
    found = []
    for seed in range(size.seeds):
        with step(f"digits, seed {seed}"):
            digits = digit_encoders(seed, size.epochs, size.kinds)
            anchors = np.random.default_rng(seed).permutation(TRAIN)[:DIGIT_ANCHORS]
            encoded = {name: Encoded(train, test, train[anchors]) for name, (train, test) in digits.vectors.items()}
            head = HeadSettings(hidden=64, epochs=size.epochs)
            found.append(stitching_matrix(encoded, digits.labels, relative=RelativeSpace(), head=head, seeds=(seed,)))
    stitched = {way: _right(found, way, stitched=True) for way in found[0].ways}
    own = {way: _right(found, way, stitched=False) for way in found[0].ways}
    text = "test images"
    run.settle(STITCHED, text, stitched["absolute"], stitched["relative"])
    run.settle(NEAR_OWN, text, own["relative"], stitched["relative"])
    run.settle(PRICE, text, own["absolute"], own["relative"])
    run.settle(TRANSLATED, text, stitched["relative"], stitched["procrustes"])
    return found


def _right(found: list[Stitching], way: str, *, stitched: bool) -> Sample:
    """Share of encoders and heads that get an image right: (seeds, images)."""
    shares = np.stack([np.mean([cell.correct[0] for cell in one.of(way, stitched=stitched)], axis=0) for one in found])  # type: ignore[index]
    return Sample(shares, np.ones_like(shares))


def _words(run: Ledger, size: Size) -> list[dict[str, Any]]:
    left, right = word_tables(size.words)
    rng = np.random.default_rng(0)
    queries = np.sort(rng.permutation(len(left))[: size.queries])
    rest = np.setdiff1d(np.arange(len(left)), queries)
    samples: dict[str, list[npt.NDArray[np.float64]]] = {}
    overlap: dict[str, list[float]] = {}
    for seed in range(size.seeds):
        order = np.random.default_rng(seed).permutation(rest)
        for k in size.anchors:
            anchors = order[:k]
            with step(f"{k} anchors, seed {seed}"):
                for name, one, other in _described(left, right, anchors):
                    way = f"{k} anchors, {name}"
                    samples.setdefault(way, []).append(1 / ranks(one[queries], other, queries))
                    overlap.setdefault(way, []).append(float(neighbor_overlap(one[queries], other[queries]).mean()))
                    console.print(f"  {way}: {samples[way][-1].mean():.3f}", highlight=False)
    found = {way: Sample(np.stack(values), np.ones((len(values), len(queries)))) for way, values in samples.items()}
    text = f"{len(queries):,} query words"
    run.settle(CENTERED, text, found["300 anchors, plain"], found["300 anchors, centered"])
    run.settle(MORE, text, found["50 anchors, centered"], found["768 anchors, centered"])
    run.settle(MAPPED, text, found["768 anchors, centered"], found["768 anchors, orthogonal map"])
    chance = float(reciprocal_ranks(rng.normal(size=(len(left), 8)), rng.normal(size=(len(left), 8))).mean())
    rows = [{"way": "chance", "mrr": chance, "p@1": 1 / len(left), "jaccard@10": None}]
    for way, values in samples.items():
        first = float(np.mean([(one == 1).mean() for one in values]))
        rows.append({"way": way, "mrr": found[way].value, "p@1": first, "jaccard@10": float(np.mean(overlap[way]))})
    return rows


def _described(left: npt.NDArray[Any], right: npt.NDArray[Any], anchors: npt.NDArray[Any]) -> list[tuple[str, Any, Any]]:
    """Both tables in common coordinates, in each way."""
    ways: list[tuple[str, Any, Any]] = []
    for name, steps in (("plain", "none"), ("centered", "center"), ("whitened", "whiten")):
        one, other = (RelativeSpace(steps=steps).fit(table[anchors]).transform(table) for table in (left, right))  # type: ignore[arg-type]
        ways.append((name, one, other))
    mapped = SemanticAlignment().fit(left[anchors], right[anchors])
    return [*ways, ("orthogonal map", mapped.transform(left) - mapped.target_mean_, right - mapped.target_mean_)]


def word_tables(words: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Rows of GloVe and of MiniLM's input table for the same words, most frequent first. Raises `InputError` without the packages."""
    from safetensors.numpy import load_file

    from regraft.tokenizer import Tokenizer

    folder = encoder_folder()
    pieces = {piece: number for number, piece in Tokenizer.from_directory(folder).pieces.items()}
    table = next(value for name, value in load_file(folder / "model.safetensors").items() if name.endswith("word_embeddings.weight"))
    with tempfile.TemporaryDirectory() as place:
        vectors = open_vectors(glove(Path(place), 60_000))
    shared = [
        (row, pieces[word])
        for row, word in enumerate(vectors.words)
        if word in pieces and len(word) >= LETTERS and word.isascii() and word.isalpha()
    ]
    places = np.array(shared[SKIPPED : SKIPPED + words])
    return vectors.matrix[places[:, 0]].astype(np.float64), table[places[:, 1]].astype(np.float64)
