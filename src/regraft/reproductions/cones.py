"""ConES, tested again: rows behind the text tower beside textual inversion, prompt tuning, and as what LoRA starts from.

The paper works with Stable Diffusion and a detector of GLIP's kind; only its abstract could be read. Here the toy pipeline learns digits
that it has no word for (2, 4 and 7, six pictures each, red on black); a tiny CLIP of its text tower tells ten digits from four and sixteen
pictures each and finds them on canvases; LoRA is tuned beside the rows. What is expected was declared below before any full run; learning
rates come from a look at a seed that is not among these.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from regraft.concepts.concept import Concept
from regraft.concepts.host.pipeline import open_pipeline
from regraft.concepts.method import ConceptMethod, Plan
from regraft.concepts.methods.cones import Cones
from regraft.concepts.methods.lora import Lora
from regraft.concepts.methods.textual_inversion import TextualInversion
from regraft.concepts.search.second_stage import conditioned_by
from regraft.concepts.toy import NAME
from regraft.progress import step
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.concepts.digits import HIDDEN, Judged, Task, judged, samples, task
from regraft.reproductions.harness.concepts.tiny_clip import WAYS, TinyClip, recognition, segmentation
from regraft.reproductions.harness.record import Findings, Ledger

RATE = 2e-2
SHORT, LONG = 50, 200
METHODS: dict[str, ConceptMethod] = {
    "textual-inversion": TextualInversion(lr=5e-3, flip=0),
    "slot": Cones(lr=RATE, flip=0),
    "full": Cones(lr=RATE, flip=0, rows="full"),
}
LORA = Lora(lr=1e-3, rank=4)
COLORINGS = tuple(
    zip(("red", "green", "blue", "yellow", "pink", "cyan"), ("black", "white", "gray", "brown", "black", "white"), strict=True)
)

LOSS: dict[str, Any] = {"metric": "diffusion loss on held-out pictures", "unit": "squared error", "kind": "ratio"}
AMONG: dict[str, Any] = {"metric": "accuracy among the three", "unit": "share"}
ATTR: dict[str, Any] = {"metric": "both colors of an unseen coloring are drawn", "unit": "share"}
DECLARED = {
    "rows": Declared(f"{LONG} steps: full rows have no higher loss than a slot", "slot", Expectation(high=0.0), **LOSS),
    "tower": Declared(
        f"{LONG} steps: full rows end within 1 % of textual inversion, or below", "textual-inversion", Expectation(high=0.01), **LOSS
    ),
    "colors": Declared(
        f"{SHORT} steps: a slot keeps the prompt's colors at least as well as textual inversion",
        "textual-inversion",
        Expectation(0.0),
        **ATTR,
    ),
    "trade": Declared(
        f"a slot that is searched for {LONG} steps draws the prompt's colors 10 points less often than at {SHORT}",
        f"{SHORT} steps",
        Expectation(high=-0.1),
        **ATTR,
    ),
    "second": Declared("LoRA beside searched rows has a lower loss than beside the word's own", "the word", Expectation(high=0.0), **LOSS),
    "identity": Declared(
        "LoRA beside searched rows draws the digit 5 points more often",
        "the word",
        Expectation(0.05),
        metric="the digit is drawn",
        unit="share",
    ),
    "coop": Declared(
        "4 pictures a class: searched rows tell 2, 4 and 7 no worse than prompt tuning (CoOp, one context)",
        "coop",
        Expectation(0.0),
        **AMONG,
    ),
    "own": Declared(
        "4 pictures a class: and no worse than prompt tuning with a context of each class",
        "coop, own context",
        Expectation(0.0),
        **AMONG,
    ),
    "names": Declared(
        "4 pictures a class: and 20 points better than their names, which are one word",
        "names",
        Expectation(0.2),
        **AMONG,
    ),
    "speed": Declared(
        "a step of the search takes at most a third of one of prompt tuning",
        "coop",
        Expectation(high=-2 / 3),
        metric="time of a step, CoOp = 1",
        unit="share",
        kind="ratio",
    ),
    "masks": Declared(
        "searched rows find digits on canvases of two, 15 points better than their names",
        "names",
        Expectation(0.15),
        metric="intersection over union",
        unit="share",
    ),
}


@dataclass
class Arms:
    """What was found: by arm, then by seed, a list over digits."""

    found: dict[str, list[list[Judged]]] = field(default_factory=dict)

    def add(self, arm: str, seed: int, one: Judged) -> None:
        seeds = self.found.setdefault(arm, [])
        if len(seeds) <= seed:
            seeds.append([])
        seeds[seed].append(one)

    def sample(self, arm: str, score: str) -> Sample:
        return samples(self.found[arm], score)

    def rows(self) -> list[dict[str, Any]]:
        """One row an arm: means over everything."""
        scores = ("loss", "attr", "joint", "identity")
        return [{"arm": arm, **{score: self.sample(arm, score).value for score in scores}} for arm in self.found]


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 12 processor minutes in full, one with `quick`."""
    seeds, shrink = (1, 10) if quick else (3, 1)
    pipeline, ledger = open_pipeline(NAME), Ledger("toy-t2i, handwritten digits, held out")
    arms = taught(pipeline, seeds, HIDDEN[:1] if quick else HIDDEN, shrink)
    text = f"digits 2, 4 and 7, 6 pictures each, {seeds} seeds"
    long, short = ({name: f"{name}, {steps} steps" for name in METHODS} for steps in (LONG, SHORT))
    for key, before, after, score in (
        ("rows", long["slot"], long["full"], "loss"),
        ("tower", long["textual-inversion"], long["full"], "loss"),
        ("colors", short["textual-inversion"], short["slot"], "attr"),
        ("trade", short["slot"], long["slot"], "attr"),
        ("second", "LoRA beside the word", "LoRA beside searched rows", "loss"),
        ("identity", "LoRA beside the word", "LoRA beside searched rows", "identity"),
    ):
        ledger.settle(DECLARED[key], text, arms.sample(before, score), arms.sample(after, score))
    tables = {"Taught": arms.rows(), **seen(pipeline, ledger, seeds, shrink)}
    if not quick:
        tables["Digit 2 in six colorings, by steps"] = by_steps(pipeline, COLORINGS)
    return Findings(Cones.paper, ledger.claims, {key.lower(): rows for key, rows in tables.items()}, tables)


def taught(pipeline: Any, seeds: int, digits: Sequence[int], shrink: int) -> Arms:
    """Every method at both budgets, and LoRA beside the word and beside searched rows; checks A and D."""
    arms, images = Arms(), 2 if shrink > 1 else 6
    for seed in range(seeds):
        for digit in digits:
            given = task(digit, pipeline=pipeline)
            for name, method in METHODS.items():
                for steps in (SHORT, LONG):
                    with step(f"{name}, {digit}, seed {seed}, {steps} steps"):
                        learned = method.learn(given.lesson, Plan(steps=max(1, steps // shrink), seed=seed)).concept
                        arms.add(f"{name}, {steps} steps", seed, judged(given, learned, per_coloring=images))
                    if (name, steps) == ("slot", LONG):
                        rows = learned
            plain = METHODS["slot"].learn(given.lesson, Plan(steps=0)).concept
            for name, beside in (("the word", plain), ("searched rows", rows)):
                with step(f"LoRA beside {name}, {digit}, seed {seed}"):
                    arms.add(f"LoRA beside {name}", seed, tuned_beside(given, beside, Plan(steps=max(1, 60 // shrink), seed=seed), images))
    return arms


def tuned_beside(given: Task, rows: Concept, plan: Plan, images: int) -> Judged:
    """LoRA with `rows` as fixed conditioning, then judged with both."""
    with conditioned_by(given.lesson.pipeline, [rows]):
        adapter = LORA.learn(given.lesson, plan).concept
        return judged(given, adapter, per_coloring=images)


def seen(pipeline: Any, ledger: Ledger, seeds: int, shrink: int) -> dict[str, list[dict[str, Any]]]:
    """Checks B and C: ten digits from few pictures, and on canvases."""
    few: dict[tuple[int, str], list[Any]] = {}
    masks: dict[str, list[np.ndarray]] = {}
    for seed in range(seeds):
        clip = TinyClip.train(pipeline, seed, 600 // shrink)
        for shots in (4, 16):
            for way, found in recognition(clip, shots, seed, 200 // shrink).items():
                few.setdefault((shots, way), []).append(found)
        for way, overlap in segmentation(clip, seed, 200 // shrink).items():
            masks.setdefault(way, []).append(overlap)

    def sample(take: Callable[[Any], np.ndarray], runs: Sequence[Any]) -> Sample:
        rows = np.stack([take(one) for one in runs])
        return Sample(rows, np.ones_like(rows))

    def hidden(way: str) -> Sample:
        return sample(lambda one: one.hidden, few[4, way])

    for key, way in (("coop", "coop"), ("own", "coop, own context"), ("names", "names")):
        ledger.settle(DECLARED[key], f"held-out 2, 4 and 7, {seeds} seeds", hidden(way), hidden("cones"))
    relative = {way: sample(lambda one: np.array([one.found.seconds_a_step]), few[4, way]) for way in ("coop", "cones")}
    ledger.settle(DECLARED["speed"], f"4 pictures a class, {seeds} seeds", *relative_to(relative["coop"], relative["cones"]))
    least = min(len(one) for runs in masks.values() for one in runs)
    overlaps = {way: sample(lambda one: one[:least], runs) for way, runs in masks.items()}
    ledger.settle(DECLARED["masks"], f"60 canvases of 32 x 64, {seeds} seeds", overlaps["names"], overlaps["cones"])
    table = []
    for way in ("names", *WAYS):
        row: dict[str, Any] = {"way": way}
        for shots in (4, 16):
            runs = few[shots, way]
            row |= {f"2, 4, 7 from {shots}": sample(lambda one: one.hidden, runs).value}
            row |= {f"all from {shots}": sample(lambda one: one.all, runs).value}
        if way != "names":
            times = [one.found.seconds_a_step / base.found.seconds_a_step for one, base in zip(few[4, way], few[4, "cones"], strict=True)]
            row["time of a step, search = 1"] = float(np.median(times))
            row["steps to CoOp's last loss"] = reached(few[4, way], few[4, "coop"])
        table.append(row)
    return {"Classes": table, "Masks": [{"way": way, "intersection over union": one.value} for way, one in overlaps.items()]}


def reached(runs: Sequence[Any], target: Sequence[Any]) -> float | None:
    """Steps until a search's loss is no higher than the last of another's, a median over seeds; None where one never was."""
    steps = [one.found.steps_to(other.found.curve[-1][1]) for one, other in zip(runs, target, strict=True)]
    return None if None in steps else float(np.median([one for one in steps if one is not None]))


def relative_to(baseline: Sample, method: Sample) -> tuple[Sample, Sample]:
    """Times as shares of the baseline's mean: seconds are the machine's, not the method's."""
    mean = baseline.value
    return tuple(Sample(one.amounts / mean, one.sizes) for one in (baseline, method))  # type: ignore[return-value]


def by_steps(pipeline: Any, colors: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Digit 2, one seed, every budget: held-out loss and colors of unseen colorings; and a slot that stops while other words matter."""
    given, rows = task(2, colors=colors, pipeline=pipeline), []
    asked = [(name, method, steps) for name, method in METHODS.items() for steps in (20, SHORT, 100, LONG)]
    for name, method, steps in [*asked, ("slot, keep=0.5", Cones(lr=RATE, flip=0, keep=0.5), LONG)]:
        learned = method.learn(given.lesson, Plan(steps=steps))
        found = judged(given, learned.concept, per_coloring=6)
        made = int(learned.curve[-1][0])
        rows.append({"method": name, "steps": made, "loss": float(found.loss.mean()), "attr": float(found.attr.mean())})
    return rows
