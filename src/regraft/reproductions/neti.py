"""NeTI, tested again: does a vector for every time and layer hold more of a concept, sooner, and can it be truncated when it is drawn?

The paper teaches sixteen subjects to Stable Diffusion; here each seed teaches `toy-t2i` another digit it has no word for, in strokes that
are red above and cyan below, which no color word covers: six pictures, batches of eight, no mirroring. All ways start from "digit" and make
equal steps, each at the rate of its paper's code. Thresholds are those set for this method before any run.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from regraft.concepts.concept import Concept
from regraft.concepts.drawing import draw
from regraft.concepts.host.diffusion import Diffusion
from regraft.concepts.judges.judge import Scores
from regraft.concepts.measures import losses
from regraft.concepts.method import Plan
from regraft.concepts.methods.neti import NeTI
from regraft.concepts.toy.judge import Judge
from regraft.method import resolve
from regraft.progress import step
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.concepts.digits import HIDDEN, HOW, PLAIN, Task, task
from regraft.reproductions.harness.concepts.two_tone import read
from regraft.reproductions.harness.record import Findings, Ledger

TONES, GROUND, ELSEWHERE = ("red", "cyan"), "black", "a {} on a white background"
FEW, MANY, TIMES = 60, 240, 9  # steps; moments of noise, each on 24 held-out pictures
KEPT = (1, 2, 4, 8, 16, 32)  # hidden units when drawn
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "textual inversion": ("textual-inversion", {"lr": 5e-3, "batch": 8, "flip": 0}),
    "xti": ("xti", {"flip": 0}),
    "neti": ("neti", {"hidden": 32, "flip": 0}),
    "neti, no bypass": ("neti", {"hidden": 32, "flip": 0, "bypass": False}),
    "neti, no nested dropout": ("neti", {"hidden": 32, "flip": 0, "nested": 0}),
}
LOSS: dict[str, Any] = {"metric": "diffusion loss on held-out pictures, same noise", "unit": "squared error"}
SHARE: dict[str, Any] = {"metric": "images read right", "unit": "share"}
RANK: dict[str, Any] = {"metric": "Spearman's rank correlation with the number of hidden units", "unit": "correlation"}
LOWER = Expectation(high=0.0)
LOSSES = {  # (baseline, its steps), (method, its steps)
    (("textual inversion", FEW), ("xti", FEW)): "60 steps: a row for each layer holds more of the concept than one row",
    (("xti", FEW), ("neti", FEW)): "60 steps: the mapper holds more than rows of layers",
    (("textual inversion", MANY), ("xti", MANY)): "240 steps: a row for each layer holds more of the concept than one row",
    (("xti", MANY), ("neti", MANY)): "240 steps: the mapper holds more than rows of layers",
    (("textual inversion", MANY), ("neti", FEW)): "the mapper after 60 steps holds no less than one row after 240",
    (("neti, no bypass", MANY), ("neti", MANY)): "240 steps: the bypass helps to hold the concept",
}
TONED = Declared(
    "both tones are drawn at least 15 points more often than by textual inversion", "textual inversion", Expectation(0.15), **SHARE
)
BACKGROUND = Declared(
    "the more units are kept, the less often the prompt's background is drawn", "no order", Expectation(high=-0.8), **RANK
)
DIGIT = Declared("the more units are kept, the more often the concept's digit is drawn", "no order", Expectation(0.8), **RANK)
CONTROL = Declared("without nested dropout backgrounds keep no such order", "no order", Expectation(-0.8), **RANK)


@dataclass(frozen=True, eq=False)
class Arm:
    """One way after so many steps, by seed. `loss` over noise and pictures; `digit`, `toned` over images."""

    loss: Scores
    digit: Scores
    toned: Scores
    cpu: float
    taught: Concept


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 9 processor minutes in full, half of one with `quick`."""
    seeds, steps, kept = (1, {FEW: 4, MANY: 8}, (1, 32)) if quick else (3, {FEW: FEW, MANY: MANY}, KEPT)
    asked = {(way, budget) for pair in LOSSES for way, budget in pair} | {("neti, no nested dropout", MANY)}
    arms: dict[tuple[str, int], list[Arm]] = {}
    slides: dict[str, list[dict[int, dict[str, float]]]] = {}
    for seed in range(seeds):
        given = task(HIDDEN[seed], colors=((TONES, GROUND),))
        for way, budget in sorted(asked):
            with step(f"{way}, {budget} steps, seed {seed}"):
                arms.setdefault((way, budget), []).append(arm(given, way, Plan(steps=steps[budget], seed=seed), 4 if quick else 24))
        for way in ("neti", "neti, no nested dropout"):
            slides.setdefault(way, []).append(slide(given, arms[way, MANY][-1].taught, kept, 4 if quick else 24))
    ledger = Ledger(f"toy-t2i, hidden digits in {' over '.join(TONES)} on {GROUND}, six pictures")
    detail = f"{seeds} seeds, a digit each"
    for (baseline, method), told in LOSSES.items():
        ledger.settle(Declared(told, f"{baseline[0]}, {baseline[1]} steps", LOWER, **LOSS), detail, of(arms[baseline]), of(arms[method]))
    ledger.settle(TONED, f"{MANY} steps, {detail}", of(arms["textual inversion", MANY], "toned"), of(arms["neti", MANY], "toned"))
    for declared, way, score in (
        (BACKGROUND, "neti", "background"),
        (DIGIT, "neti", "digit"),
        (CONTROL, "neti, no nested dropout", "background"),
    ):
        orders = [order(one, score) for one in slides[way]]
        ledger.settle_order(declared, f"{', '.join(map(str, kept))} of 32 units, {detail}", orders)
    rows = [
        {"way": way, "steps": budget, **{name: float(of(found, name).value) for name in ("loss", "digit", "toned")},
         "cpu_seconds_a_step": sum(one.cpu for one in found) / seeds / steps[budget]}
        for (way, budget), found in sorted(arms.items())
    ]  # fmt: skip
    slid = [
        {
            "way": way,
            "units": units,
            **{name: float(np.mean([one[units][name] for one in found])) for name in ("background", "digit", "toned")},
        }
        for way, found in slides.items()
        for units in kept
    ]
    return Findings(NeTI.paper, ledger.claims, {"arms": rows, "truncation": slid}, {"Ways": rows, "Truncated": slid})


def arm(given: Task, way: str, plan: Plan, images: int) -> Arm:
    """Teach, draw a prompt without colors, and measure."""
    method, settings = WAYS[way]
    start = time.process_time()
    taught = resolve("concept-method", method, settings).learn(given.lesson, plan).concept
    spent = time.process_time() - start
    pipeline, word = given.lesson.pipeline, given.lesson.word
    loss = losses(pipeline, [taught], Diffusion(pipeline, given.held_out.images), PLAIN.format(word), TIMES).ravel()
    seen = read(Judge.load(), draw(pipeline, [taught], [PLAIN.format(word)] * images, HOW))
    return Arm(loss, seen.of(given.digit), seen.toned(*TONES), spent, taught)


def slide(given: Task, taught: Any, kept: tuple[int, ...], images: int) -> dict[int, dict[str, float]]:
    """What a concept draws on a background it was never seen on, with fewer and fewer of its hidden units."""
    found = {}
    for units in kept:
        seen = read(Judge.load(), draw(given.lesson.pipeline, [taught.truncated(units)], [ELSEWHERE.format(taught.word)] * images, HOW))
        scores = {"background": seen.on("white"), "digit": seen.of(given.digit), "toned": seen.toned(*TONES)}
        found[units] = {name: float(values.mean()) for name, values in scores.items()}
    return found


def order(found: dict[int, dict[str, float]], score: str) -> float:
    """Spearman's correlation of a score with the number of units; not a number where the score never changes, which says nothing."""
    values = [one[score] for one in found.values()]
    return float("nan") if len(set(values)) == 1 else float(spearmanr(list(found), values).statistic)


def of(found: list[Arm], score: str = "loss") -> Sample:
    """A score of all seeds, a row each."""
    return ranked(np.stack([getattr(one, score) for one in found]))


def ranked(values: Scores) -> Sample:
    return Sample(values, np.ones_like(values))
