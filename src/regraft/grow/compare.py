"""Ways to another size beside the untouched model, in one table.

Enters: a checkpoint, text, methods, a size. Leaves: one row a method, also where another failed: bits per byte as grown and after the same
short training, parameters, speed of growing; resumable.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from regraft.checkpoint import Checkpoint
from regraft.comparison import Arm, Bench, Kept, Metric, Outcome, ranked, run, save, tables_of
from regraft.errors import ParameterError
from regraft.evaluation import Score
from regraft.evaluation.paired import Sample
from regraft.grow.grower import Grower
from regraft.grow.job import Job
from regraft.grow.report.comparison import before_and_after
from regraft.language.loading import load_model
from regraft.meter import metered
from regraft.method import list_methods, resolve
from regraft.output import check_outside, workplace
from regraft.report import Report
from regraft.training import Training

ROWS = "rows.jsonl"
LEVEL = 5e-4  # bits per byte that no table shows
UNTOUCHED = "untouched"
METRIC = Metric("bits_per_byte", amounts="document_bits", sizes="document_bytes")


class SizeBench(Bench):
    """One checkpoint, one size, and the text that each result is scored and trained on."""

    metric, reference, unit = METRIC, UNTOUCHED, "methods"

    def __init__(self, job: Job, size: Any, training: Training | None, out: Path | None) -> None:
        self.job, self.size, self.training = job, size, training
        self.place = (out or Path()) / "grown"

    def fingerprint(self, *, trained: bool) -> str:
        corpus = self.job.corpus.sha256 if self.job.corpus is not None else ""
        given = [self.job.checkpoint.source_hash(), corpus, self.job.scored, str(self.size), self.job.context.steps, self.job.context.seed]
        given += [self.job.context.dtype, repr(self.training) if trained else None]
        return hashlib.sha256(json.dumps(given).encode()).hexdigest()

    def baseline(self) -> Outcome:
        outcome = blank(UNTOUCHED)
        score = self.job.score(load_model(self.job.checkpoint, self.job.context.dtype, self.job.context.device))
        self._scored(outcome, score, METRIC.name)
        outcome.row["parameters"] = _parameters(self.job.checkpoint)
        return outcome

    def measure(self, arm: Arm) -> Outcome:
        """Grown, scored, and trained at once where all are trained: what was grown need not be made again."""
        outcome, method = blank(arm.name), arm.method
        context = replace(self.job.context, notes=outcome.notes, gene=None)
        with workplace(self.place) as work:
            with metered() as cost:
                grown = method.grow(self.job.checkpoint, self.size, work / "model", context)
            outcome.row |= {"seconds": cost.seconds, "peak_mb": cost.peak_mb, "parameters": _parameters(Checkpoint.open(grown.out))}
            model = method.open(grown.out, context)
        self._scored(outcome, self.job.score(model), METRIC.name)
        if self.training is not None:
            with outcome.alone():
                steps = self.job.trained(model, self.training)
                outcome.curve = [(float(point.step), point.bits_per_byte) for point in steps.losses]
                self._scored(outcome, self.job.score(model), METRIC.after)
        return outcome

    def _scored(self, outcome: Outcome, score: Score, name: str) -> None:
        outcome.row[name] = score.bits_per_byte
        outcome.sample = Sample.of_scores([score])


def blank(method: str) -> Outcome:
    names = (
        METRIC.name,
        METRIC.after,
        "parameters",
        "seconds",
        "peak_mb",
        "behind_first",
        "behind_first_low",
        "behind_first_high",
        "error",
    )
    return Outcome({"method": method, **dict.fromkeys(names)})


@dataclass(frozen=True)
class Compared:
    """`rows` as `--json` prints them, best first after the untouched model; the report that shows them."""

    rows: list[dict[str, Any]]
    report: Report

    @property
    def failures(self) -> list[str]:
        """A line for each method, where every one of them failed as it was grown."""
        failed = [row for row in self.rows[1:] if row[METRIC.name] is None]
        return [f"{row['method']}: {row['error']}" for row in failed] if len(failed) == len(self.rows) - 1 else []


def compare(
    job: Job,
    family: str,
    size: Any,
    *,
    methods: Sequence[str] | str = "all",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    training: Training | None = None,
    out: Path | None = None,
    taken: Callable[[Any], Any] = lambda method: method,
) -> Compared:
    """Grow `job.checkpoint` to `size` by each of `methods` of `family`, and score each beside the untouched model.

    Methods that learn before they grow have `job.context.steps` for it; `training` then is the same for all. `taken` makes a method of the
    family one that grows as a `Grower` does. Raises `ParameterError`: unknown methods, nothing to score.
    """
    if not job.scorable:
        raise ParameterError(f"{job.checkpoint.path}: compare scores text: give --corpus, and a model with a language-model head")
    job.check_training(training)
    names = [cls.name for cls in list_methods(family)] if methods in ("all", ["all"]) else list(dict.fromkeys(methods))
    if not names:
        raise ParameterError("--methods names no method: give names separated by commas, or all; `regraft methods` lists them")
    chosen: list[Grower] = [taken(resolve(family, name, (settings or {}).get(name))) for name in names]
    if out is not None:
        check_outside(out, [job.checkpoint.root])
    chosen[0].check(job.checkpoint, size, out or Path(), job.context)  # the same for all of a family
    bench = SizeBench(job, size, training, out)
    outcomes = run(bench, [Arm(one.name, one) for one in chosen], 0, Kept(out, ROWS))
    rows = ranked([one.row for one in outcomes.values()], outcomes, METRIC)
    report = _report(job, chosen[0].said(size), rows, outcomes, training)
    if out is not None:
        save(out, {"rows": rows}, report)
    return Compared(rows, report)


def _report(job: Job, size: str, rows: list[dict[str, Any]], outcomes: Mapping[str, Outcome], training: Training | None) -> Report:
    done = [row for row in rows[1:] if row["error"] is None]
    lead = f"{job.checkpoint.path.name} at {size}: {rows[0][METRIC.name]:.3f} bits per byte untouched"
    report = Report("Ways to another size", f"{lead}; {_first(done)}." if done else f"{lead}; every method failed.")
    if done:
        caption = "As grown, and after the same training; further to the left is better. The axis does not start at 0."
        report.add_figure("Bits per byte of held-out text", before_and_after(rows), caption)
    budget = (
        "nothing was trained"
        if training is None
        else f"then trained {training.steps} steps of {training.batch_size} x {training.block} tokens"
    )
    caption = (
        f"{sum(len(text.encode()) for text in job.scored):,} bytes scored; {budget}. behind_first: bits per byte more than the first "
        "method, with half its 95 % interval over the same documents; below 0 is better than it."
    )
    for table in tables_of(rows, outcomes, METRIC, caption):
        report.add_table(**table)
    return report


def _first(done: Sequence[Mapping[str, Any]]) -> str:
    """Which of the ranked rows is best, or which are level with the first: as far as their intervals can tell."""
    key, when = (METRIC.after, "after training") if done[0][METRIC.after] is not None else (METRIC.name, "as grown")
    same_stage = [row for row in done[1:] if (row[METRIC.after] is None) == (done[0][METRIC.after] is None)]
    level = [row["method"] for row in same_stage if row["behind_first_low"] is not None and row["behind_first_low"] <= LEVEL]
    if not level:
        return f"best is {done[0]['method']} with {done[0][key]:.3f} {when}"
    return f"{', '.join([done[0]['method'], *level[:-1]])} and {level[-1]} are level with {done[0][key]:.3f} {when}"


def _parameters(checkpoint: Checkpoint) -> int:
    import math

    return sum(math.prod(info.shape) for info in checkpoint.tensors.values())
