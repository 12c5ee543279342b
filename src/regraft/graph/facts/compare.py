"""Models of facts beside translations: same facts, same epochs, several seeds; ranks of the same held-out facts in pairs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regraft.comparison import Arm, Bench, Kept, Metric, Outcome, check_out, ranked, run, save
from regraft.errors import ParameterError
from regraft.evaluation.paired import Sample
from regraft.graph.facts.data import Facts, open_facts
from regraft.graph.facts.learning import Learned, Ranks, Schedule, figures, hits, learn, ranks
from regraft.graph.facts.model import FactModel
from regraft.graph.facts.report.comparison import report_of
from regraft.meter import metered
from regraft.method import list_methods, parse_settings, resolve
from regraft.progress import step
from regraft.report import Report

ROWS, PLAIN = "rows.jsonl", "transe"
MRR = Metric("mrr", "high", amounts="reciprocal_ranks", sizes="facts")


class FactBench(Bench):
    """One graph, learned by each arm with each seed."""

    metric, unit, reference = MRR, "models", PLAIN

    def __init__(self, facts: Facts, plain: FactModel, schedule: Schedule, seeds: int) -> None:
        self.facts, self.plain, self.schedule, self.seeds = facts, plain, schedule, seeds

    def fingerprint(self, *, trained: bool) -> str:
        given = ["hits", self.facts.sha256, asdict(self.schedule), self.seeds, str(self.plain)]
        return hashlib.sha256(json.dumps(given).encode()).hexdigest()

    def baseline(self) -> Outcome:
        return self.measure(Arm(self.reference, self.plain))

    def measure(self, arm: Arm) -> Outcome:
        outcome = Outcome({"method": arm.name, self.metric.name: None, "error": None})
        learned: list[Learned] = []
        found: list[Ranks] = []
        with metered() as cost:
            for seed in range(self.seeds):
                with step(f"{arm.name}, seed {seed}"):
                    learned.append(learn(arm.method, self.facts, self.schedule, seed))
                    found.append(ranks(learned[-1].model, self.facts.test, [self.facts.train, self.facts.valid]))
        outcome.sample = sample_of(found)
        outcome.row |= {name: float(np.mean([figures(one)[name] for one in found])) for name in figures(found[0])}
        outcome.row["hits"] = list(map(list, hits(np.stack(found), len(self.facts.entities))))
        outcome.row |= {"parameters": sum(one.numel() for one in learned[0].model.parameters())}
        outcome.row |= {"epoch": float(np.mean([one.epoch for one in learned]))}
        outcome.row |= {"seconds": cost.seconds / self.seeds, "peak_mb": cost.peak_mb}
        outcome.curve = learned[0].curve
        return outcome


def sample_of(found: Sequence[Ranks]) -> Sample:
    """One document a fact: the mean reciprocal rank of its head and its tail; one row a seed."""
    amounts = np.stack([(1 / one).mean(0) for one in found])
    return Sample(amounts, np.ones_like(amounts))


@dataclass(frozen=True)
class Compared:
    """`rows` as `--json` prints them, translations first, then the best; the report that shows them."""

    rows: list[dict[str, Any]]
    report: Report


def compare(
    dataset: str | Path,
    *,
    models: Sequence[str] = ("all",),
    settings: Mapping[str, Mapping[str, Any]] = {},
    schedule: Schedule | None = None,
    seeds: int = 3,
    out: Path | None = None,
) -> Compared:
    """Learn `dataset` with each of `models` ("all", or names, "nfe:variant=1" with a field set) beside `transe`, `seeds` times each.

    With `out`, rows, `comparison.json` and `comparison.html` are kept there. Raises `ParameterError`: an unknown model, settings of none.
    """
    if out is not None:
        check_out(out)
    known = [cls.name for cls in list_methods("fact-model")]
    names = [name for name in (known if list(models) == ["all"] else models) if name != PLAIN]
    for name in settings:
        if name not in (PLAIN, *(one.partition(":")[0] for one in names)):
            raise ParameterError(f"--set {name}: that model is not compared")
    schedule = schedule or Schedule()
    arms = [Arm(name, _model(name, settings)) for name in dict.fromkeys(names)]
    facts = open_facts(dataset)
    bench = FactBench(facts, _model(PLAIN, settings), schedule, seeds)
    outcomes = run(bench, arms, 0, Kept(out, ROWS))
    rows = ranked([one.row for one in outcomes.values()], outcomes, bench.metric)
    report = report_of(facts, schedule, seeds, rows, outcomes, bench.metric)
    if out is not None:
        save(out, {"rows": rows}, report)
    return Compared(rows, report)


def _model(name: str, settings: Mapping[str, Mapping[str, Any]]) -> FactModel:
    method, _, own = name.partition(":")
    found: FactModel = resolve("fact-model", method, {**settings.get(method, {}), **parse_settings([own] if own else [])})
    return found
