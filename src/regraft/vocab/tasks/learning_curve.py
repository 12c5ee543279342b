"""Learning curves: every vocabulary on the same shares of the same labels, several seeds, each beside the base tokenizer.

Enters: arms of one checkpoint, labelled data, shares and seeds. Leaves: one run a (seed, share, arm), kept as it ends, and `Point`s with
the score and the paired bootstrap of its difference to base. Runs go seed by seed and share by share, arms innermost, so that a slow
spell of the machine or an interruption meets all arms alike; as many at a time as there is room for.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from regraft.checkpoint import Checkpoint
from regraft.errors import ParameterError
from regraft.evaluation.paired import Effect, Sample, paired_effect
from regraft.progress import progress_bar
from regraft.tasks.fine_tuning import POOL, FineTuning, Prepare, fine_tune, start_model
from regraft.tasks.labelled.examples import Example, LabelledData
from regraft.tasks.narrowing import Narrowing
from regraft.tasks.parallel import room, spread
from regraft.tasks.task import Counts, Feature, Task
from regraft.vocab.tasks.arms import BASE, Arm, Subject

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
class Run:
    """One fine-tuning: what the model found in each test example, (examples, 3), and the seconds it took."""

    arm: str
    share: float
    seed: int
    counts: Counts
    seconds: float

    @property
    def f1(self) -> float:
        """Micro-F1 over all test examples, 0 where there was nothing to find and nothing found."""
        return micro_f1(self.counts)


def micro_f1(counts: Counts) -> float:
    r""":math:`2 TP / (2 TP + FP + FN)` of summed counts."""
    tp, fp, fn = counts.sum(0).tolist()
    return float(2 * tp / max(1, 2 * tp + fp + fn))


def f1_sample(runs: Sequence[Run]) -> Sample:
    """Micro-F1 as a ratio of sums over test examples, one row a seed, for the paired bootstrap."""
    stacked = np.stack([run.counts for run in runs]).astype(np.float64)
    amounts = 2 * stacked[:, :, 0]
    return Sample(amounts, amounts + stacked[:, :, 1] + stacked[:, :, 2])


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


class KeptRuns:
    """Finished runs in `runs.jsonl`, taken over when model, vocabulary, data and settings are the same."""

    def __init__(self, folder: Path | None) -> None:
        self.path = folder and folder / "runs.jsonl"
        self.found: dict[str, Run] = {}
        if self.path and self.path.is_file():
            for line in self.path.read_text("utf-8").splitlines():
                entry = json.loads(line)
                counts = np.array(entry["counts"], dtype=np.int64)
                self.found[entry["key"]] = Run(entry["arm"], entry["share"], entry["seed"], counts, entry["seconds"])

    def keep(self, key: str, run: Run) -> None:
        self.found[key] = run
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, **asdict(run), "counts": run.counts.tolist()}) + "\n")


@dataclass(frozen=True)
class Job:
    """One fine-tuning to do: `features` and `test_features` are `examples` and `test` in the arm's tokens, numbered by `narrowing`."""

    arm: str
    share: float
    seed: int
    checkpoint: Checkpoint
    prepare: Prepare | None
    narrowing: Narrowing
    task: Task
    tuning: FineTuning
    features: Sequence[Feature]
    examples: Sequence[Example]
    test_features: Sequence[Feature]
    test: Sequence[Example]
    device: str


def measure(job: Job) -> Run:
    """Fine-tune one model and score it on the test side."""
    started, task = time.perf_counter(), job.task
    model = start_model(task, job.checkpoint, job.prepare, job.seed)
    job.narrowing.narrow(task.table(model))
    model.to(job.device)
    sizes = [len(example.text) for example in job.examples]
    fine_tune(task, model, job.features, job.tuning, seed=job.seed, sizes=sizes, device=job.device)
    task.calibrate(model, job.features, job.examples)
    counts = task.count(task.predict(model, job.test_features), job.test)
    return Run(job.arm, job.share, job.seed, counts, time.perf_counter() - started)


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

    def run(self, kept: KeptRuns | None = None) -> list[Point]:
        """Every run that is not kept already, then the points."""
        kept = kept or KeptRuns(None)
        planned = [(arm, share, seed) for seed, share, arm in self.planned()]
        keys = [self.key(*one) for one in planned]
        missing = [(key, one) for key, one in zip(keys, planned, strict=True) if key not in kept.found]
        parameters = sum(prod(info.shape) for info in self.subject.checkpoint.tensors.values())
        workers = room(self.device, parameters)
        with progress_bar("fine-tuning", total=len(planned), unit="runs") as bar:
            bar.advance(len(planned) - len(missing))
            runs = spread(measure, (self.job(*one) for _, one in missing), min(workers, len(missing)))
            for (key, _), run in zip(missing, runs, strict=True):
                kept.keep(key, run)
                bar.say(f"{run.arm}, {100 * run.share:g} %: F1 {run.f1:.3f}")
                bar.advance()
        self.runs = [kept.found[key] for key in keys]
        return self.points()

    def job(self, arm: Arm, share: float, seed: int) -> "Job":
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
