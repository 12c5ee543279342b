"""Low-resource vocabulary expansion on a second language: Sinhala, which the model spells byte by byte, with translation from English.

The paper's Sinhala models have 8 billion parameters and 30,000 sentences; here SmolLM2-135M gets 100 pieces (the paper's number) from some
1,800 news sentences of NTREX-128, whose English side is the source of what is translated. What is expected was declared below before any
run: directions from the paper, sizes as for Vietnamese (`lowres-vocab-expansion`), unless a claim says otherwise.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from regraft import datasets
from regraft.corpus.documents import HASH_RANGE, document_digest, split_key
from regraft.corpus.pairs import Pair, read_pairs
from regraft.evaluation import Score, Translation, translate
from regraft.evaluation.chrf import ChrfSample
from regraft.language.precision import precision
from regraft.method import resolve
from regraft.progress import console, step
from regraft.report.figures import training_curves
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.record import Findings, Ledger
from regraft.reproductions.harness.vocab.arms import Arm, Trained, train_arm
from regraft.reproductions.harness.vocab.setting import Setting, Subject, Texts, score
from regraft.reproductions.harness.vocab.starts import score_starts
from regraft.vocab.initializers.align import Align

DATA, HELD_OUT = "ntrex-128", 0.1
RANDOM, NEAR_MEAN, MEAN = "univariate", "mean", "constituent-mean"  # "Random" and "Mean" of the paper are the first and the last
STARTS = {RANDOM: 3, NEAR_MEAN: 1, "focus": 1, "merge": 1, MEAN: 1, "align": 1}  # seeds
EXPANSION, RANDOM_ROWS, LAPT = "2x2 mtp align", "2x2 mtp univariate", "lapt without expansion"
OURS = "The size is ours."

SI, EN, EN_SI = "held-out Sinhala", "held-out English", "held-out English to Sinhala, few-shot"
STARTS_CLAIMS = {
    (RANDOM, NEAR_MEAN): Declared(
        "before training, rows near the mean beat random rows", "univariate (N(mu, sigma) per dimension)", Expectation(high=-0.2)
    ),
    (NEAR_MEAN, MEAN): Declared(
        "before training, the mean of the old pieces beats near-mean rows", "mean of all rows", Expectation(high=-0.5)
    ),
    (MEAN, "merge"): Declared("before training, Merge and Mean differ by less than 0.1 bit", MEAN, Expectation(-0.1, 0.1)),
    ("focus", MEAN): Declared("before training, the mean of the old pieces beats FOCUS", "focus", Expectation(high=0.0)),
}
ALIGN = Declared(
    "before training, Align and Mean differ by less than 0.1 bit (route new-first)",
    MEAN,
    Expectation(-0.1, 0.1),
    note="The route of the paper for Sinhala. On that of the other claims they are the same: each piece has one old spelling.",
)
FEWER_TOKENS = Declared(
    "the new pieces spell a sentence with at least 30 % fewer tokens",
    "old tokenizer",
    Expectation(high=-0.3),
    metric="tokens per sentence",
    unit="token/sentence",
    kind="ratio",
    note=OURS,
)
SAME_ENGLISH = Declared(
    "continued training of the merges leaves English within 2 % in bits per byte", "untouched model", Expectation(-0.02, 0.02), kind="ratio"
)
NOT_WORSE = Declared(
    "expansion is within 0.1 bit of LAPT without new tokens at the same processor time",
    "LAPT: LoRA r=8, old tokenizer",
    Expectation(high=0.1),
)
ORDER = Declared("after training Align is still ahead of random rows by 0.05 bit", RANDOM, Expectation(high=-0.05))
LONGER_STEPS = Declared(
    "a decoding step of the expanded model writes at least 40 % more characters",
    "LAPT: LoRA r=8, old tokenizer",
    Expectation(low=0.4),
    metric="characters per decoding step",
    unit="character/step",
    kind="ratio",
    note=f"{OURS} Both write what they choose.",
)
TRANSLATES = Declared(
    "translations of the expanded model are not worse by more than 1 point of chrF",
    "LAPT: LoRA r=8, old tokenizer",
    Expectation(low=-1.0),
    metric="chrF",
    unit="chrF",
    note=OURS,
)
TRAINING: dict[str, Any] = {"block": 128, "lr": 1e-3}  # as for Vietnamese: the paper's 1e-4 is for two epochs


@dataclass(frozen=True)
class Size:
    """How much of everything. `longest` is that of a source that is translated or shown, in characters: a step of 30 costs as much."""

    pieces: int = 100
    sinhala: int = 24
    english: int = 20
    seeds: int = 3
    training_seeds: int = 2
    arm_seconds: float = 100
    batch_size: int = 4
    examples: int = 3
    translated: int = 32
    longest: int = 70


QUICK = Size(pieces=30, sinhala=3, english=3, seeds=1, training_seeds=1, arm_seconds=5, batch_size=1, examples=1, translated=3, longest=40)


@dataclass(kw_only=True)
class Run(Ledger):
    """What is known so far; `before` holds the untouched model's scores of both languages, `pairs` what is translated."""

    setting: Setting
    size: Size
    pairs: list[Pair]
    before: tuple[Score, Score]
    extra: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 50 minutes of one processor core in full, 3 with `quick`."""
    size = QUICK if quick else Size()
    with step("reading the text"):
        texts, pairs = read_texts(size)
    setting = Setting.prepare(size.pieces, texts)
    with step("translations of the untouched model"):
        untouched = setting.untouched()
        before = score(untouched, setting.target_held_out), score(untouched, setting.english_held_out)
        run = Run(str(setting), setting=setting, size=size, pairs=pairs, before=before)
        run.extra = {"precision": precision(), "training": {**TRAINING, "batch_size": size.batch_size}}
        first = write_translations(run, "untouched", untouched)
        del untouched
    with step("starts, before training"):
        compare_starts(run)
        compare_route(run)
        compare_tokens(run)
    with step("training arms"):
        arms, translations = train_arms(run)
    settle_arms(run, arms)
    settle_translations(run, first, translations)
    lines = {trial.title: [(p["cpu_seconds"], p["sinhala"]) for p in trial.curve] for trials in arms.values() for trial in trials}
    figure = training_curves(lines, untouched=before[0].bits_per_byte, x_title="processor seconds")
    return Findings(Align.paper, run.claims, run.extra, run.tables, {"Held-out Sinhala, bits per byte": figure})


def read_texts(size: Size) -> tuple[Texts, list[Pair]]:
    """Both languages, split by the hash of the Sinhala line, and the held-out pairs with short sources."""
    pairs = read_pairs(datasets.fetch(DATA, "eng.txt"), datasets.fetch(DATA, "sin.txt"))
    held = [split_key(document_digest(sinhala.encode())) < HELD_OUT * HASH_RANGE for _, sinhala in pairs]
    learn, held_out = ([pair for pair, out in zip(pairs, held, strict=True) if out == side] for side in (False, True))
    texts = Texts(
        language="Sinhala",
        data=DATA,
        target=[sinhala for _, sinhala in learn],
        english=[english for english, _ in learn],
        target_held_out=[sinhala for _, sinhala in held_out[: size.sinhala]],
        english_held_out=[english for english, _ in held_out[: size.english]],
    )
    return texts, [pair for pair in held_out if len(pair[0]) <= size.longest]


def compare_starts(run: Run) -> None:
    """Bits per byte of both languages and greedy hits of each start, before training."""
    found, rows, _ = score_starts(run.setting, {name: min(seeds, run.size.seeds) for name, seeds in STARTS.items()}, run.before)
    for (baseline, method), declared in STARTS_CLAIMS.items():
        run.settle(declared, SI, Sample.of_scores(found[baseline].target), Sample.of_scores(found[method].target))
    run.settle(SAME_ENGLISH, EN, Sample.of_scores([run.before[1]]), Sample.of_scores(found[MEAN].english), "Start: constituent-mean.")
    run.tables["Starts before training (bits per byte; hits: share of English positions whose greedy token is new)"] = rows
    run.extra["starts"] = rows


def compare_route(run: Run) -> None:
    """Align beside Mean where pieces have several old spellings."""
    setting = run.setting.rerouted("new-first")
    subject = setting.started(resolve("initializer", MEAN))
    mean = score(subject, setting.target_held_out)
    aligned = score(setting.started(resolve("initializer", "align"), 0, subject), setting.target_held_out)
    run.settle(ALIGN, SI, Sample.of_scores([mean]), Sample.of_scores([aligned]))


def compare_tokens(run: Run) -> None:
    setting = run.setting
    both = (setting.tokenizer, setting.change.tokenizer)
    old, new = (Sample.of([len(ids) for ids in tokenizer.encode_batch(setting.target_held_out)]) for tokenizer in both)
    run.settle(FEWER_TOKENS, SI, old, new)


def write_translations(run: Run, name: str, subject: Subject) -> Translation:
    """What a model makes of the sources that every model gets."""
    done = translate(*subject, run.pairs, examples=run.size.examples, sentences=run.size.translated)
    low, high = done.interval()
    console.print(f"  {name}: chrF {done.chrf:.2f} ({low:.2f} to {high:.2f}), {done.seconds:.0f} s", highlight=False)
    return done


def train_arms(run: Run) -> tuple[dict[str, list[Trained]], dict[str, list[Translation]]]:
    """Every arm for the same processor time, and what the two that are compared by it translate; a list is over seeds."""
    settings = {**TRAINING, "batch_size": run.size.batch_size}
    expansion = {**settings, "parameters": "2x2", "objective": "mtp"}
    arms = [
        Arm(EXPANSION, resolve("initializer", "align"), expansion),
        Arm(LAPT, None, {**settings, "parameters": "adapters"}),
        Arm(RANDOM_ROWS, resolve("initializer", RANDOM), expansion),
    ]
    trained: dict[str, list[Trained]] = {arm.name: [] for arm in arms}
    translations: dict[str, list[Translation]] = {EXPANSION: [], LAPT: []}

    def keep(name: str, subject: Subject) -> None:
        if name in translations:
            translations[name].append(write_translations(run, name, subject))

    for seed in range(run.size.training_seeds):  # seed by seed, so that a slow spell of the machine meets every arm
        for arm in arms:
            done = train_arm(run.setting, replace(arm, seed=seed), cpu_seconds=run.size.arm_seconds, points=0, then=partial(keep, arm.name))
            trained[arm.name].append(done)
    return trained, translations


def settle_arms(run: Run, arms: dict[str, list[Trained]]) -> None:
    last = {name: Sample.of_scores([trial.target for trial in trials]) for name, trials in arms.items()}
    steps = {name: " and ".join(str(trial.steps) for trial in trials) for name, trials in arms.items()}
    budget = f"{run.size.arm_seconds:g} processor seconds each, lr {TRAINING['lr']:g} for all."
    for declared, baseline in ((NOT_WORSE, LAPT), (ORDER, RANDOM_ROWS)):
        note = f"{budget} Steps: {steps[baseline]}, expansion {steps[EXPANSION]}."
        run.settle(declared, SI, last[baseline], last[EXPANSION], note)
    everything = [trial for trials in arms.values() for trial in trials]
    run.tables["Training arms (bits per byte)"] = [trial.row() for trial in everything]
    run.extra["arms"] = [trial.to_dict() for trial in everything]


def per_step(done: list[Translation]) -> Sample:
    """Characters and steps of each sentence, a run a seed."""
    characters, steps = (np.stack([getattr(t, name) for t in done]).astype(np.float64) for name in ("characters", "steps"))
    return Sample(characters, steps)


def settle_translations(run: Run, untouched: Translation, translations: dict[str, list[Translation]]) -> None:
    steps = {name: per_step(done) for name, done in translations.items()}
    points = {name: ChrfSample(np.stack([t.counts for t in done])) for name, done in translations.items()}
    shown = f"{run.size.examples} examples, {len(untouched.references)} sentences, to the end of the line."
    beside = f"{shown} Untouched: {untouched.chrf:.2f}. {untouched.signature}."
    run.settle(LONGER_STEPS, EN_SI, steps[LAPT], steps[EXPANSION], shown)
    run.settle(TRANSLATES, EN_SI, points[LAPT], points[EXPANSION], beside)
    listed = [
        ("untouched", untouched),
        *((f"{name}, seed {seed}", t) for name, done in translations.items() for seed, t in enumerate(done)),
    ]
    rows = [{"model": name, **t.to_dict()} for name, t in listed]
    run.extra["translations"] = rows
    names = ("model", "chrf", "chrf_interval", "tokens_per_sentence", "characters_per_step", "seconds")
    run.tables["Translation, English to Sinhala"] = [{name: row[name] for name in names} for row in rows]
