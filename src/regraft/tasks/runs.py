"""One fine-tuning of a comparison, which may be done in another process: what it needs, and what the model then found.

Enters: a `Job`. Leaves: a `Run` with counts by test example, from which micro-F1 and its paired bootstrap come.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from regraft.checkpoint import Checkpoint
from regraft.evaluation.paired import Sample
from regraft.tasks.fine_tuning import FineTuning, Prepare, fine_tune, start_model
from regraft.tasks.labelled.examples import Example
from regraft.tasks.narrowing import Narrowing
from regraft.tasks.task import Counts, Feature, Task


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

    def to_line(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {**asdict(self), "counts": self.counts.tolist()}

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> "Run":
        """What `to_line` wrote."""
        return cls(line["arm"], line["share"], line["seed"], np.array(line["counts"], dtype=np.int64), line["seconds"])


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
