"""Training arms that compare: the same setting, different ways to train, the same processor time or the same steps.

Enters: a `Setting` and an `Arm`. Leaves: the scores before and after, the curve, and the processor time that training took. Time is that of
the process (all threads), not of the clock, so that a busy machine does not favour one arm.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from regraft.evaluation import Score
from regraft.language.precision import precision
from regraft.progress import console
from regraft.reproductions.harness.vocab.setting import Setting, Subject, score
from regraft.training import Training, TrainingRun, train
from regraft.training.adapters import untie
from regraft.vocab.initializer import Initializer

Point = dict[str, float]


@dataclass(frozen=True)
class Arm:
    """One way to train. `start` None leaves the model its old vocabulary; `settings`: fields of `Training`; `untied` parts the tables."""

    name: str
    start: Initializer | None
    settings: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    untied: bool = False

    def training(self, budget: dict[str, float], every: float) -> Training:
        common: dict[str, Any] = {"accumulate": 1, "precision": precision(), "clock": "process", "seed": self.seed}
        return Training(**{**common, **self.settings, **budget, "evaluate_every": every})

    def prepare(self, setting: Setting) -> Subject:
        subject = setting.untouched() if self.start is None else setting.started(self.start, self.seed)
        if self.untied:
            untie(subject[0])
        return subject


@dataclass(frozen=True)
class Trained:
    """What an arm gave: `curve` of both languages, first and last scores, processor seconds and steps of training.

    The target language goes by its own name in the curve, in small letters.
    """

    arm: Arm
    language: str
    curve: list[Point]
    target_before: Score
    target: Score
    english: Score
    cpu_seconds: float
    steps: int
    tokens: int
    trainable: int

    @property
    def title(self) -> str:
        return f"{self.arm.name}, seed {self.arm.seed}"

    def to_dict(self) -> dict[str, Any]:
        start = None if self.arm.start is None else {"name": self.arm.start.name, **asdict(self.arm.start)}
        numbers = {"steps": self.steps, "tokens": self.tokens, "cpu_seconds": self.cpu_seconds, "trainable_parameters": self.trainable}
        return {"arm": self.arm.name, "start": start, "settings": self.arm.settings, "seed": self.arm.seed, **numbers, "curve": self.curve}

    def row(self) -> dict[str, Any]:
        """One line of a table."""
        ends = ("before", self.curve[0]), ("after", self.curve[-1])
        bits = {f"{name[:2]} {when}": point[name] for name in (self.language, "english") for when, point in ends}
        return {"arm": self.title, "steps": self.steps, "cpu seconds": self.cpu_seconds, **bits}


def step_costs(setting: Setting, arms: Sequence[Arm], *, rounds: int, steps: int) -> dict[str, list[float]]:
    """Processor seconds of single training steps of each arm, the arms taking turns; the first step of a turn is left out."""
    costs: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for _ in range(rounds):
        for arm in arms:
            marks: list[float] = []

            def mark(model: Any, step: int, marks: list[float] = marks) -> float:
                marks.append(time.process_time())
                return 0.0

            _train(setting, arm, arm.prepare(setting), {"steps": steps + 1}, 1, mark, texts=setting.target[:1000])
            costs[arm.name] += [after - before for before, after in pairwise(marks[1:])]
    return costs


def train_arm(
    setting: Setting,
    arm: Arm,
    *,
    points: int,
    steps: int | None = None,
    cpu_seconds: float = 60.0,
    then: Callable[[Subject], object] | None = None,
) -> Trained:
    """Train for `steps` steps, or for `cpu_seconds`; score both languages at the start, the end and about `points` places between.

    `then` sees the trained model before it is dropped.
    """
    subject, language = arm.prepare(setting), setting.language.lower()
    curve: list[Point] = []
    scores: list[tuple[Score, Score]] = []
    clock = {"began": 0.0, "outside": 0.0}

    def measure(model: Any, step: int) -> float:
        entered = time.process_time()
        target, english = score(subject, setting.target_held_out), score(subject, setting.english_held_out)
        if not curve:  # packing and the first scores are not training
            clock["began"] = entered
        curve.append(
            {
                "step": step,
                "cpu_seconds": entered - clock["began"] - clock["outside"],
                language: target.bits_per_byte,
                "english": english.bits_per_byte,
            }
        )
        scores.append((target, english))
        clock["outside"] += time.process_time() - entered
        return target.bits_per_byte

    budget: dict[str, float] = {"minutes": cpu_seconds / 60} if steps is None else {"steps": steps}
    every = cpu_seconds / 60 / (points + 1) if steps is None else max(1, -(-steps // (points + 1)))
    run = _train(setting, arm, subject, budget, every, measure, texts=setting.target)
    first, last = curve[0], curve[-1]
    moved = ", ".join(f"{name[:2]} {first[name]:.3f} -> {last[name]:.3f}" for name in (language, "english"))
    console.print(f"  {arm.name}, seed {arm.seed}: {run.steps} steps, {last['cpu_seconds']:.0f} CPU s, {moved}", highlight=False)
    if then is not None:
        then(subject)
    return Trained(arm, language, curve, scores[0][0], *scores[-1], last["cpu_seconds"], run.steps, run.tokens, run.trainable_parameters)


def _train(
    setting: Setting,
    arm: Arm,
    subject: Subject,
    budget: dict[str, float],
    every: float,
    hook: Callable[[Any, int], float],
    *,
    texts: Sequence[str],
) -> TrainingRun:
    replay = setting.english if arm.settings.get("replay") else None
    new_ids = () if arm.start is None else setting.change.new_ids
    return train(*subject, texts, arm.training(budget, every), new_ids=new_ids, replay_texts=replay, on_evaluate=hook)
