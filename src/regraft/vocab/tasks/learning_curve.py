"""Learning curves: every vocabulary on the same shares of the same labels, several seeds, each beside the base tokenizer.

Enters: arms of one checkpoint, labelled data, shares and seeds. Leaves: one run a (seed, share, arm), kept as it ends, and `Point`s with
the score and the paired bootstrap of its difference to base. Runs go seed by seed and share by share, arms innermost, so that a slow
spell of the machine or an interruption meets all arms alike; as many at a time as there is room for.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from regraft.comparison import Kept
from regraft.errors import ParameterError
from regraft.evaluation.paired import Effect, Sample, paired_effect
from regraft.progress import progress_bar
from regraft.tasks.fine_tuning import POOL, FineTuning
from regraft.tasks.labelled.examples import LabelledData
from regraft.tasks.narrowing import Narrowing
from regraft.tasks.parallel import room, spread
from regraft.tasks.runs import Job, Run, f1_sample, measure
from regraft.tasks.task import Feature, Task
from regraft.vocab.tasks.arms import BASE, Arm, Subject

RUNS = "runs.jsonl"
SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)
SEEDS = 3


@dataclass(frozen=True)
class Plan:
    """Which runs there are. `shares` of the training labels in (0, 1], ascending; seeds are 0 to `seeds` - 1, counted from `first_seed`."""

    shares: tuple[float, ...] = SHARES
    seeds: int = SEEDS
    tuning: FineTuning = field(default_factory=FineTuning)
    first_seed: int = 0

    def __post_init__(self) -> None:
        if not self.shares or any(not 0 < share <= 1 for share in self.shares) or list(self.shares) != sorted(set(self.shares)):
            said = ",".join(f"{100 * share:g}" for share in self.shares)
            raise ParameterError(f"--shares {said}: give ascending percentages above 0 and up to 100, such as 5,10,20,50,100")
        if self.seeds < 1:
            raise ParameterError(f"--seeds {self.seeds}: give 1 or more")


@dataclass(frozen=True)
class Point:
    """One arm at one share: mean micro-F1 over seeds, and its `effect` beside the base tokenizer (None for base itself)."""

    arm: str
    share: float
    examples: int
    f1: float
    f1_by_seed: list[float]
    interval: tuple[float, float]
    effect: Effect | None
    seconds: float

    def row(self) -> dict[str, Any]:
        """As `regraft compare --task --json` prints it."""
        effect = self.effect
        return {
            "method": self.arm,
            "share": self.share,
            "examples": self.examples,
            "f1": self.f1,
            "f1_interval": list(self.interval),
            "f1_by_seed": self.f1_by_seed,
            "difference": effect and effect.effect,
            "interval": effect and [effect.low, effect.high],
            "seconds": self.seconds,
            "error": None,
        }


class Curves:
    """The runs of one comparison. Build it, then `run()`; examples are encoded once an arm."""

    def __init__(self, subject: Subject, data: LabelledData, task: Task, arms: Sequence[Arm], plan: Plan, device: str = "cpu") -> None:
        self.subject, self.data, self.task, self.arms, self.plan, self.device = subject, data, task, list(arms), plan, device
        self.sizes = {share: data.size(share) for share in plan.shares}
        self.runs: list[Run] = []
        self._encoded: dict[str, tuple[list[Feature], list[Feature], Narrowing]] = {}
        self._source = hashlib.sha256(f"{subject.checkpoint.source_hash()}\0{data.sha256()}\0{task.max_length}".encode()).hexdigest()

    def features(self, arm: Arm) -> tuple[list[Feature], list[Feature], Narrowing]:
        """Training and test examples in the arm's tokens, by their places in the small table; arms of one vocabulary share them."""
        if arm.vocabulary not in self._encoded:
            train, test = (self.task.encode(arm.encoder, side) for side in (self.data.train, self.data.test))
            narrowing = Narrowing.of(self.task, [*train, *test])
            self._encoded[arm.vocabulary] = narrowing.features(self.task, train), narrowing.features(self.task, test), narrowing
        return self._encoded[arm.vocabulary]

    def key(self, arm: Arm, share: float, seed: int) -> str:
        """Identifies a run: one of another model, vocabulary, start, data or setting is not taken over."""
        train, test, narrowing = self.features(arm)
        tuning = (self.plan.tuning.length(self.sizes[share]), repr(self.plan.tuning))
        parts = [self._source, arm.name, repr(arm.start), share, seed, tuning, POOL, arm.new_tokens]
        read = hashlib.sha256(repr([*train, *test]).encode() + narrowing.kept.tobytes()).hexdigest()  # ids and labels
        return hashlib.sha256("\0".join(map(str, [*parts, read])).encode()).hexdigest()

    def planned(self) -> Iterator[tuple[int, float, Arm]]:
        for seed in range(self.plan.first_seed, self.plan.first_seed + self.plan.seeds):
            for share in self.plan.shares:
                for arm in self.arms:
                    yield seed, share, arm

    def run(self, kept: Kept | None = None) -> list[Point]:
        """Every run that is not kept already (in the file `RUNS`), then the points."""
        kept = kept or Kept(None, RUNS)
        planned = [(arm, share, seed) for seed, share, arm in self.planned()]
        keys = [self.key(*one) for one in planned]
        missing = [(key, one) for key, one in zip(keys, planned, strict=True) if kept.found(key) is None]
        parameters = sum(prod(info.shape) for info in self.subject.checkpoint.tensors.values())
        workers = room(self.device, parameters)
        with progress_bar("fine-tuning", total=len(planned), unit="runs") as bar:
            bar.advance(len(planned) - len(missing))
            runs = spread(measure, (self.job(*one) for _, one in missing), min(workers, len(missing)))
            for (key, _), run in zip(missing, runs, strict=True):
                kept.keep(key, run.to_line())
                bar.say(f"{run.arm}, {100 * run.share:g} %: F1 {run.f1:.3f}")
                bar.advance()
        self.runs = [Run.from_line(line) for key in keys if (line := kept.found(key))]
        return self.points()

    def job(self, arm: Arm, share: float, seed: int) -> Job:
        """What one run needs, and no more: it may be done in another process."""
        train, test, narrowing = self.features(arm)
        chosen = self.data.order(seed)[: self.sizes[share]]
        return Job(
            arm.name,
            share,
            seed,
            self.subject.checkpoint,
            self.subject.prepare(arm, seed),
            narrowing,
            self.task,
            self.plan.tuning,
            [train[i] for i in chosen],
            [self.data.train[i] for i in chosen],
            test,
            self.data.test,
            self.device,
        )

    def of(self, arm: str, share: float) -> list[Run]:
        """The runs of one arm at one share, by seed."""
        return sorted((run for run in self.runs if run.arm == arm and run.share == share), key=lambda run: run.seed)

    def points(self) -> list[Point]:
        """Scores by share and arm, each beside base."""
        found = []
        for share in self.plan.shares:
            reference = f1_sample(self.of(BASE, share)) if self.of(BASE, share) else None
            for arm in self.arms:
                runs = self.of(arm.name, share)
                sample = f1_sample(runs)
                alone = paired_effect(Sample(np.zeros_like(sample.sizes), np.ones_like(sample.sizes)), sample)
                effect = None if reference is None or arm.name == BASE else paired_effect(reference, sample)
                seconds = sum(run.seconds for run in runs)
                by_seed = [run.f1 for run in runs]
                size = self.sizes[share]
                found.append(Point(arm.name, share, size, sample.value, by_seed, (alone.low, alone.high), effect, seconds))
        return found
