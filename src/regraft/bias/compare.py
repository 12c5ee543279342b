"""Priors beside their plain twin on one task: same examples, same steps, several seeds.

Enters: a task, methods, a number of steps. Leaves: one row a method, also where another failed, with the paired interval of its distance
to the first over the same held-out examples; resumable.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from regraft.bias.prior import Learned, Plan, Prior
from regraft.bias.report.comparison import report_of
from regraft.bias.tasks.task import Task
from regraft.comparison import Arm, Bench, Kept, Outcome, arms_of, ranked, run, save
from regraft.errors import ParameterError
from regraft.evaluation.paired import Sample
from regraft.meter import metered
from regraft.method import list_methods
from regraft.progress import step
from regraft.report import Report

ROWS = "rows.jsonl"


class PriorBench(Bench):
    """One task, learned by each arm with each seed."""

    unit = "priors"

    def __init__(self, task: Task, plain: Prior, plan: Plan, seeds: int) -> None:
        self.task, self.plain, self.plan, self.seeds = task, plain, plan, seeds
        self.metric, self.reference = task.metric, plain.name

    def fingerprint(self, *, trained: bool) -> str:
        given = [self.task.name, self.task.sha256, str(self.plan), self.seeds, str(self.plain)]
        return hashlib.sha256(json.dumps(given).encode()).hexdigest()

    def baseline(self) -> Outcome:
        return self.measure(Arm(self.reference, self.plain))

    def measure(self, arm: Arm) -> Outcome:
        outcome = Outcome({"method": arm.name, self.metric.name: None, "error": None})
        found: list[Learned] = []
        with metered() as cost:
            for seed in range(self.plan.seed, self.plan.seed + self.seeds):
                with step(f"{arm.name}, seed {seed}"):
                    found.append(arm.method.learn(self.task, replace(self.plan, seed=seed)))
        scores = np.stack([one.scores for one in found])
        outcome.sample = Sample(scores, np.ones_like(scores))
        outcome.row |= {self.metric.name: outcome.sample.value, "parameters": found[0].parameters}
        outcome.row |= {"seconds": cost.seconds / self.seeds, "peak_mb": cost.peak_mb}
        outcome.row |= {name: float(np.mean([one.facts[name] for one in found])) for name in found[0].facts}
        outcome.curve = found[0].curve
        return outcome


@dataclass(frozen=True)
class Compared:
    """`rows` as `--json` prints them, the baseline first, then the best; the report that shows them."""

    rows: list[dict[str, Any]]
    report: Report


def compare(
    task: Task,
    *,
    methods: Sequence[str] = ("all",),
    settings: Mapping[str, Mapping[str, Any]] = {},
    plan: Plan | None = None,
    seeds: int = 3,
    out: Path | None = None,
) -> Compared:
    """Learn `task` with every method of `methods` ("all": those that can) beside the plain network of its kind, `seeds` times each.

    With `out`, rows, `comparison.json` and `comparison.html` are kept there. Raises `ParameterError`: an unknown method, one that cannot
    learn such a task, settings of none.
    """
    plan = plan or Plan()
    able: list[type[Prior]] = [cls for cls in list_methods("prior") if task.kind in cls.kinds]
    plain = next(cls for cls in able if task.kind in cls.plain_of)
    if wrong := [name for name in methods if name not in {"all", *(cls.name for cls in able)}]:
        raise ParameterError(f"--methods {wrong[0]}: no prior that learns {task.kind}: choose {', '.join(cls.name for cls in able)}")
    beside, arms = arms_of("prior", methods, settings, plain.name, able=[cls.name for cls in able])
    bench = PriorBench(task, beside, plan, seeds)
    outcomes = run(bench, arms, 0, Kept(out, ROWS))
    rows = ranked([one.row for one in outcomes.values()], outcomes, bench.metric)
    report = report_of(task, plan, seeds, rows, outcomes)
    if out is not None:
        save(out, {"rows": rows}, report)
    return Compared(rows, report)
