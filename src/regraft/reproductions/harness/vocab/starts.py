"""Starts of rows compared on one setting: before training, and after the same training.

Enters: settings and starts by name. Leaves: scores of held-out text by name, one a seed, and rows for the report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from regraft.evaluation import GreedyHits, Score, greedy_hits
from regraft.method import resolve
from regraft.progress import console, step
from regraft.report.figures import training_curves
from regraft.reproductions.harness.claim import Declared, Sample
from regraft.reproductions.harness.record import Ledger
from regraft.reproductions.harness.vocab.arms import Arm, Trained, train_arm
from regraft.reproductions.harness.vocab.setting import Setting, Subject, score
from regraft.reproductions.harness.vocab.vietnamese import vietnamese_setting
from regraft.reproductions.harness.vocab.word_vectors import bilingual_aids
from regraft.vocab.initializer import Initializer

TRAINING: dict[str, Any] = {"parameters": "2x2", "block": 128, "batch_size": 4, "lr": 1e-3, "warmup": 0.1}
EXCHANGED = "tokenizer replaced; held-out Vietnamese"
Claims = Mapping[str, Declared]


@dataclass(frozen=True)
class Started:
    """What one start gives before training, a seed at a time: scores of both languages, and greedy hits of new tokens in English."""

    target: list[Score] = field(default_factory=list)
    english: list[Score] = field(default_factory=list)
    hits: list[GreedyHits] = field(default_factory=list)


def score_starts(
    setting: Setting, starts: Mapping[str, int], before: tuple[Score, Score]
) -> tuple[dict[str, Started], list[dict[str, Any]], Subject]:
    """Every start by its method's name, under so many seeds; rows for the report, `before` (the untouched model) first; the last model."""
    code = setting.language[:2].lower()
    rows: list[dict[str, Any]] = [{"start": "untouched", code: before[0].bits_per_byte, "en": before[1].bits_per_byte}]
    found: dict[str, Started] = {}
    subject: Subject | None = None
    for name, seeds in starts.items():
        started = found[name] = Started()
        for seed in range(seeds):
            subject = setting.started(resolve("initializer", name), seed, subject)
            started.target.append(score(subject, setting.target_held_out))
            started.english.append(score(subject, setting.english_held_out))
            started.hits.append(greedy_hits(*subject, setting.english_held_out[:6], setting.change.new_ids))
        target, english = (float(np.mean([s.bits_per_byte for s in scores])) for scores in (started.target, started.english))
        share = sum(h.hits for h in started.hits) / sum(h.positions for h in started.hits)
        rows.append({"start": name, code: target, "en": english, "hits": share})
        console.print(f"  {name}: {code} {target:.3f} en {english:.3f} hits {share:.1%}", highlight=False)
    assert subject is not None
    return found, rows, subject


@dataclass(frozen=True)
class Contest:
    """What starts gave: `before` and `after` training, scores by name, and every arm."""

    before: dict[str, Sample]
    after: dict[str, Sample]
    rows: list[dict[str, Any]]
    arms: list[Trained] = field(default_factory=list)

    @property
    def extra(self) -> dict[str, Any]:
        return {"training": TRAINING, "starts": self.rows, "arms": [arm.to_dict() for arm in self.arms]}

    @property
    def tables(self) -> dict[str, list[dict[str, Any]]]:
        return {"Starts before training (bits per byte)": self.rows, "Training (bits per byte)": [arm.row() for arm in self.arms]}

    @property
    def figures(self) -> dict[str, Any]:
        lines = {arm.title: [(p["step"], p["vietnamese"]) for p in arm.curve] for arm in self.arms}
        return {"Held-out Vietnamese, bits per byte": training_curves(lines, x_title="steps")}


def hold(settings: Sequence[Setting], starts: Mapping[str, Initializer], trained: Sequence[str], *, steps: int, points: int) -> Contest:
    """Score every start on each setting, then train those named in `trained` for `steps` steps. The place of a setting is its seed."""
    before: dict[str, list[Score]] = {name: [] for name in starts}
    subject: Subject | None = None
    with step("starts, before training"):
        untouched = score(settings[0].untouched(), settings[0].target_held_out).bits_per_byte
        for seed, setting in enumerate(settings):
            for name, start in starts.items():
                subject = setting.started(start, seed, subject)
                before[name].append(score(subject, setting.target_held_out))
                console.print(f"  {name}, seed {seed}: {before[name][-1].bits_per_byte:.3f}", highlight=False)
    rows = [{"start": "untouched, old tokenizer", "vi": untouched}]
    rows += [{"start": name, "vi": float(np.mean([s.bits_per_byte for s in scores]))} for name, scores in before.items()]
    subject = None
    arms: dict[str, list[Trained]] = {name: [] for name in trained}
    with step("training"):
        for seed, setting in enumerate(settings):  # seed by seed, so that a slow spell of the machine meets every start
            for name, done in arms.items():
                done.append(train_arm(setting, Arm(name, starts[name], TRAINING, seed), steps=steps, points=points))
    after = {name: Sample.of_scores([arm.target for arm in done]) for name, done in arms.items()}
    return Contest({n: Sample.of_scores(s) for n, s in before.items()}, after, rows, [arm for done in arms.values() for arm in done])


@dataclass(frozen=True)
class Exchange:
    """How much of everything where the tokenizer is exchanged. `vietnamese` and `english` sentences are scored."""

    pieces: int = 5000
    sentences: int = 10_000
    vietnamese: int = 32
    english: int = 2
    seeds: int = 3
    steps: int = 20


QUICK = Exchange(pieces=1500, sentences=1500, vietnamese=6, english=2, seeds=1, steps=2)


def exchange(
    quick: bool, starts: Mapping[str, Initializer], trained: Sequence[str], before: Claims, after: Claims, note: str
) -> tuple[Ledger, Contest]:
    """A Vietnamese tokenizer in place of SmolLM2's own, word vectors once a seed: claims of the first of `starts` against the others.

    `before` and `after` training, by the name of the start it is compared with.
    """
    size = QUICK if quick else Exchange()
    setting = vietnamese_setting(1, sentences=size.sentences, vietnamese=size.vietnamese, english=size.english).replaced(size.pieces)
    with TemporaryDirectory() as folder:
        aids = [bilingual_aids(Path(folder), setting.english[: size.sentences], setting.target, seed) for seed in range(size.seeds)]
        contest = hold([replace(setting, aids=each) for each in aids], starts, trained, steps=size.steps, points=0)
    run, method = Ledger(str(setting)), next(iter(starts))
    how = f"{size.steps} steps of 512 tokens, tables and the outer two layers at either end, lr 1e-3. {note}"
    for claims, scores, said in ((before, contest.before, note), (after, contest.after, how)):
        for name, declared in claims.items():
            run.settle(declared, EXCHANGED, scores[name], scores[method], said)
    return run, contest
