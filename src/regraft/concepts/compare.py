"""Ways to teach a concept beside textual inversion: same pictures, several seeds, images of the same prompts and noise.

Enters: what `learn` takes, methods, prompts. Leaves: one row a method (identity, prompt match, their product; loss on pictures that nobody
learned from), paired intervals over images and seeds, contact sheets; resumable.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regraft.comparison import Arm, Bench, Kept, Metric, Outcome, arms_of, ranked, run, save
from regraft.concepts.concept import Concept
from regraft.concepts.drawing import Drawing, draw
from regraft.concepts.host.captions import known
from regraft.concepts.host.diffusion import Diffusion
from regraft.concepts.host.images import Pictures, to_pil
from regraft.concepts.judges.judge import Judge, scores
from regraft.concepts.learn import PLAIN
from regraft.concepts.measures import context_cosine, losses
from regraft.concepts.method import ConceptMethod, Learned, Lesson, Plan
from regraft.concepts.report.comparison import report_of
from regraft.errors import ParameterError
from regraft.evaluation.paired import Sample
from regraft.meter import metered
from regraft.progress import step
from regraft.report import Report

ROWS, IMAGES, REFERENCE, UNTOUCHED = "rows.jsonl", "images", "textual-inversion", "untouched"
JOINT, LOSS = Metric("joint", "high", amounts="shown", sizes="images"), Metric("held_out_loss", "low", amounts="losses", sizes="pictures")
COMPOSED = (
    "a {} on a white background",
    "a red {} on a gray background",
    "a drawing of the blue {}",
    "a yellow {} on a brown background",
    PLAIN,
    "a {} in the snow",
    "a {} on the beach",
    "a {} made of glass",
)
SHORT = Drawing(steps=25)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How arms are tried. `seeds` runs each, every prompt drawn `copies` times; `held_out` : share of the pictures nobody learns from."""

    seeds: int = 3
    copies: int = 2
    held_out: float = 0.25
    prompts: tuple[str, ...] = COMPOSED
    drawing: Drawing = SHORT


@dataclass(frozen=True)
class Untouched:
    """The initial word in the place of the concept's: nothing is learned."""


class ConceptBench(Bench):
    """One concept, learned by each arm with each seed."""

    unit, reference = "methods", REFERENCE

    def __init__(self, lesson: Lesson, plain: ConceptMethod, plan: Plan, trial: Trial, judge: Judge | None, out: Path | None) -> None:
        self.whole, self.plain, self.plan, self.trial, self.judge, self.out = lesson, plain, plan, trial, judge, out
        self.metric = LOSS if judge is None else JOINT
        self.lesson, self.held_out = split(lesson, trial.held_out, plan.seed)
        self.prompts = known(lesson.pipeline, list(trial.prompts), lesson.init)
        self.asked = [sentence for sentence in self.prompts for _ in range(trial.copies)]
        self.diffusion = Diffusion(lesson.pipeline, self.held_out.images)

    def fingerprint(self, *, trained: bool) -> str:
        lesson = self.whole
        given = [
            str(self.plan),
            str(self.trial),
            str(self.plain),
            lesson.word,
            lesson.init,
            lesson.kind,
            self.prompts,
            str(self.judge is None),
        ]
        digest = hashlib.sha256(json.dumps(given).encode())
        digest.update(lesson.pictures.images.numpy().tobytes())
        return digest.hexdigest()

    def baseline(self) -> Outcome:
        return self.measure(Arm(self.reference, self.plain))

    def measure(self, arm: Arm) -> Outcome:
        if isinstance(arm.method, Untouched):
            return self._outcome(arm, [[]] * self.trial.seeds, [])
        found: list[Learned] = []
        with metered() as cost:
            for seed in range(self.plan.seed, self.plan.seed + self.trial.seeds):
                with step(f"{arm.name}, seed {seed}"):
                    found.append(arm.method.learn(self.lesson, replace(self.plan, seed=seed)))
        outcome = self._outcome(arm, [[one.concept] for one in found], found)
        outcome.row |= {"parameters": found[0].parameters, "steps": self.plan.steps or arm.method.steps}
        outcome.row |= {name: float(np.mean([one.facts[name] for one in found])) for name in found[0].facts}
        outcome.row |= {"seconds": cost.seconds / self.trial.seeds, "peak_mb": cost.peak_mb}
        outcome.curve = found[0].curve
        outcome.notes = [one.stopped for one in found if one.stopped]
        return outcome

    def _outcome(self, arm: Arm, taught: Sequence[Sequence[Concept]], found: Sequence[Learned]) -> Outcome:
        lesson = self.lesson
        outcome = Outcome({"method": arm.name, self.metric.name: None, "error": None})
        word = lesson.word if found else lesson.init
        judged: dict[str, list[Any]] = {}
        shown: dict[str, list[Any]] = {}
        for number, concepts in enumerate(taught):
            if number and not found:  # nothing of it changes with the seed of learning
                for kept in judged.values():
                    kept.append(kept[0])
                continue
            drawn = draw(
                lesson.pipeline, concepts, [one.format(word) for one in self.asked], self.trial.drawing, told=f"drawing by {arm.name}"
            )
            for name, values in scores(self.judge, drawn, [one.format(lesson.init) for one in self.asked]).items():
                judged.setdefault(name, []).append(values)
            judged.setdefault(LOSS.name, []).append(losses(lesson.pipeline, concepts, self.diffusion, PLAIN.format(word)).ravel())
            behind = [one for one in self.prompts if not one.endswith("{}")]
            if concepts and behind:
                shown.setdefault("context_cosine", []).append(context_cosine(lesson.pipeline, concepts[0], lesson.init, behind))
            if number == 0 and self.out is not None:
                keep_images(self.out / IMAGES / arm.name, drawn[:: self.trial.copies])
        amounts = np.stack(judged[self.metric.name])
        outcome.sample = Sample(amounts, np.ones_like(amounts))
        outcome.row |= {name: float(np.mean(values)) for name, values in (judged | shown).items()}
        return outcome


def split(lesson: Lesson, share: float, seed: int) -> tuple[Lesson, Pictures]:
    """The lesson without a share of its pictures, and those. Raises `ParameterError`: fewer than two pictures."""
    given = lesson.pictures
    count = len(given.names)
    if count < 2:
        raise ParameterError("one image cannot be learned from and judged on: compare wants two or more (four to eight are better)")
    out = max(1, round(count * share))
    order = np.random.default_rng(seed).permutation(count)
    parts = [
        Pictures(given.images[rows], [given.names[i] for i in rows], given.captions, given.notes) for rows in (order[out:], order[:out])
    ]
    return replace(lesson, pictures=parts[0]), parts[1]


def keep_images(folder: Path, images: torch.Tensor) -> None:
    """Images as files `0.png`, `1.png`, ... in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(to_pil(images)):
        image.save(folder / f"{number}.png")


@dataclass(frozen=True)
class Compared:
    """`rows` as `--json` prints them, textual inversion first, then the best; the report that shows them."""

    rows: list[dict[str, Any]]
    report: Report


def compare(
    lesson: Lesson,
    *,
    methods: Sequence[str] = ("all",),
    settings: Mapping[str, Mapping[str, Any]] = {},
    plan: Plan | None = None,
    trial: Trial | None = None,
    judge: Judge | None = None,
    out: Path | None = None,
) -> Compared:
    """Teach the concept of `lesson` by every method of `methods` ("all": each there is) beside textual inversion and the untouched word.

    Without a `judge` methods are ranked by their loss on held-out pictures alone. With `out`, rows, images, `comparison.json` and
    `comparison.html` are kept there. Raises `ParameterError`: an unknown method, settings of none, one picture.
    """
    plan, trial = plan or Plan(), trial or Trial()
    plain, arms = arms_of("concept-method", methods, settings, REFERENCE)
    bench = ConceptBench(lesson, plain, plan, trial, judge, out)
    outcomes = run(bench, [Arm(UNTOUCHED, Untouched()), *arms], 0, Kept(out, ROWS))
    rows = ranked([one.row for one in outcomes.values()], outcomes, bench.metric)
    report = report_of(bench.lesson, bench.prompts, trial.seeds, judge, bench.metric, rows, outcomes, None if out is None else out / IMAGES)
    if out is not None:
        save(out, {"rows": rows, "notes": list(lesson.pictures.notes)}, report)
    return Compared(rows, report)
