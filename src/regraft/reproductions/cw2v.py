"""CW2V, tested again: convex mixes learned by skip-gram, against sampled rows, and whether greedy decoding of old text stays as it was.

The paper extends RoBERTa and LLaMA 2 7B for Hindi, Tamil, German and Russian and continues pre-training; here SmolLM2-135M gets 500
Vietnamese pieces and its embeddings train for minutes; OFA knows the words of 10,000 sentences of either language, aligned by a dictionary.
What is expected was declared below before any full run (OFA's part after an earlier one without it): directions from the paper, sizes from
earlier measurements on this model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from regraft.evaluation import Score, greedy_hits
from regraft.language.precision import precision
from regraft.method import resolve
from regraft.progress import console, step
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.record import Findings, Ledger
from regraft.reproductions.harness.vocab.arms import Arm, Trained, train_arm
from regraft.reproductions.harness.vocab.setting import Setting, Subject, score
from regraft.reproductions.harness.vocab.starts import Contest
from regraft.reproductions.harness.vocab.vietnamese import read_lines, vietnamese_setting
from regraft.reproductions.harness.vocab.word_vectors import bilingual_aids
from regraft.vocab.initializer import Initializer
from regraft.vocab.initializers.cw2v import CW2V
from regraft.vocab.initializers.ofa import OFA

RANDOM, NEAR_MEAN, PIECES, MIXED = "univariate", "multivariate", "constituent-mean", "cw2v, code-mixed"
OTHERS = ("mean", "normal")  # the paper's other baselines, of which nothing is claimed
ONCE = (PIECES, "mean", "ofa")  # no seed enters, but OFA's word vectors, made once
VI, EN = "held-out Vietnamese", "held-out English"
HITS: dict[str, Any] = {"metric": "share of old text's positions whose greedy token is new", "unit": "share"}
BEFORE = {
    RANDOM: Declared("step 0: CW2V beats random rows by at least 0.5 bit", "univariate (N(mu, sigma))", Expectation(high=-0.5)),
    NEAR_MEAN: Declared("step 0: CW2V beats rows near the mean by at least 0.5 bit", "multivariate, c = 1e-5", Expectation(high=-0.5)),
    PIECES: Declared("step 0: CW2V is not worse than the mean of the old pieces", PIECES, Expectation(high=0.0)),
    "ofa": Declared("step 0: CW2V is not worse than OFA", "ofa", Expectation(high=0.0)),
}
TIES = Declared("step 0: text code-mixed by a dictionary is not worse than plain text", "cw2v on plain text", Expectation(high=0.0))
SAFE = Declared("greedy decoding of English never chooses a CW2V row", "untouched model", Expectation(high=0.0), **HITS)
UNSAFE = Declared("greedy decoding of English chooses random rows at one position in a hundred or more", "cw2v", Expectation(0.01), **HITS)
AFTER = Declared("after the same training of the embeddings CW2V is still ahead of random rows", "univariate", Expectation(high=0.0))
SHRINKS = Declared(
    "the gap between random rows and CW2V shrinks while training",
    "gap at step 0",
    Expectation(high=0.0),
    metric="gap to CW2V in bits per byte",
)
TRAINING: dict[str, Any] = {"parameters": "embeddings", "block": 128, "batch_size": 4, "lr": 1e-3, "warmup": 0.1}


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    pieces: int = 500
    sentences: int = 10_000
    vietnamese: int = 48
    english: int = 20
    greedy: int = 400
    seeds: int = 3
    epochs: int = 1
    steps: int = 20


QUICK = Size(pieces=200, sentences=1000, vietnamese=6, english=4, greedy=4, seeds=1, steps=2)


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 70 processor minutes in full, 2 with `quick`."""
    size = QUICK if quick else Size()
    setting = vietnamese_setting(size.pieces, sentences=size.sentences, vietnamese=size.vietnamese, english=size.greedy)
    run = Ledger(f"{setting}, of which {size.english} are scored" if size.english < size.greedy else str(setting))
    starts: dict[str, Initializer] = {"cw2v": CW2V(epochs=size.epochs), MIXED: CW2V(epochs=size.epochs, mix="dictionary")}
    starts |= {"ofa": OFA(source_languages="source")} | {
        name: resolve("initializer", name) for name in (RANDOM, NEAR_MEAN, PIECES, *OTHERS)
    }
    with TemporaryDirectory() as folder, step("starts, before training"):
        english, vietnamese = (read_lines(f"{language}.train")[: size.sentences] for language in ("en", "vi"))
        setting = replace(setting, aids=bilingual_aids(Path(folder), english, vietnamese, seed=0))
        before, rows = compare_starts(run, setting, starts, size)
    for name, declared in BEFORE.items():
        run.settle(declared, VI, before[name], before["cw2v"], f"r = 64, {size.epochs} epoch.")
    run.settle(TIES, VI, before["cw2v"], before[MIXED], "Up to half of the words of a line in English; pairs of both languages.")
    with step("training the embeddings"):
        arms = train_arms(replace(setting, english_held_out=setting.english_held_out[: size.english]), starts, size)
    first = {name: Sample.of_scores([arm.target_before for arm in done]) for name, done in arms.items()}
    last = {name: Sample.of_scores([arm.target for arm in done]) for name, done in arms.items()}
    how = f"{size.steps} steps of 512 tokens, all rows of the tied table, lr 1e-3."
    run.settle(AFTER, VI, last[RANDOM], last["cw2v"], how)
    run.settle(SHRINKS, VI, first[RANDOM] - first["cw2v"], last[RANDOM] - last["cw2v"], how)
    contest = Contest(before, last, rows, [arm for done in arms.values() for arm in done])
    extra = {"precision": precision(), **contest.extra, "training": TRAINING}
    return Findings(CW2V.paper, run.claims, extra, contest.tables, contest.figures)


def compare_starts(
    run: Ledger, setting: Setting, starts: dict[str, Initializer], size: Size
) -> tuple[dict[str, Sample], list[dict[str, Any]]]:
    """Bits per byte of both languages and greedy hits on English, before training; rows that need no seed are measured once."""
    found: dict[str, list[Score]] = {name: [] for name in starts}
    hits: dict[str, list[Sample]] = {name: [] for name in starts}
    rows: list[dict[str, Any]] = []
    subject: Subject | None = None
    for name, start in starts.items():
        english: list[float] = []
        for seed in range(1 if name in ONCE else size.seeds):
            subject = setting.started(start, seed, subject)
            found[name].append(score(subject, setting.target_held_out))
            english.append(score(subject, setting.english_held_out[: size.english]).bits_per_byte)
            hits[name].append(hits_by_sentence(subject, setting, size.greedy if name in ("cw2v", RANDOM) else size.english))
        vi, share = float(np.mean([s.bits_per_byte for s in found[name]])), over_seeds(hits[name]).value
        rows.append({"start": name, "vi": vi, "en": float(np.mean(english)), "hits": share})
        console.print(f"  {rows[-1]}", highlight=False)
    safe = over_seeds(hits["cw2v"])
    none = Sample(np.zeros_like(safe.amounts), safe.sizes)
    run.settle(SAFE, EN, none, safe, "The untouched model has no new rows. Logits within 1e-4 of each other count as a tie.")
    run.settle(UNSAFE, EN, safe, over_seeds(hits[RANDOM]))
    return {name: Sample.of_scores(scores) for name, scores in found.items()}, rows


def hits_by_sentence(subject: Subject, setting: Setting, sentences: int) -> Sample:
    """Greedy hits of new ids, and positions, of each English sentence (0 of 0 where it holds a new piece)."""
    counted = [greedy_hits(*subject, [text], setting.change.new_ids) for text in setting.english_held_out[:sentences]]
    return Sample.of([float(c.hits) for c in counted], [float(c.positions) for c in counted])


def over_seeds(samples: Sequence[Sample]) -> Sample:
    return Sample(np.concatenate([s.amounts for s in samples]), np.concatenate([s.sizes for s in samples]))


def train_arms(setting: Setting, starts: dict[str, Initializer], size: Size) -> dict[str, list[Trained]]:
    """CW2V and random rows, one run a seed, the starts taking turns."""
    arms: dict[str, list[Trained]] = {"cw2v": [], RANDOM: []}
    for seed in range(size.seeds):
        for name, done in arms.items():
            done.append(train_arm(setting, Arm(name, starts[name], TRAINING, seed), steps=size.steps, points=0))
    return arms
