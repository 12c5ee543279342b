"""Classify nodes: learn from some labels, stop by others, judge on the rest, and say what every node may be.

Enters: `Nodes`, methods, seeds. Leaves: a row a method beside simple graph convolution, with the paired interval of its distance over the
same test nodes; resumable; a file of predictions for every node, and a page.
"""

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regraft.comparison import Arm, Bench, Kept, Outcome, arms_of, ranked, run, save
from regraft.evaluation.paired import Sample
from regraft.graph.classify.classifier import Classified, NodeClassifier, Nodes
from regraft.graph.classify.data import Found, split
from regraft.graph.classify.report import ACCURACY, report_of
from regraft.graph.labels import macro_f1
from regraft.meter import metered
from regraft.progress import step
from regraft.report import Report

ROWS, PREDICTIONS, REFERENCE = "rows.jsonl", "predictions-{}.csv", "sgc"


@dataclass(frozen=True)
class Plan:
    """At most `epochs` each, `seeds` times; the split and everything random follow `seed`."""

    epochs: int = 200
    seeds: int = 3
    seed: int = 0


class NodeBench(Bench):
    """The nodes of one graph, one split, each arm with each seed."""

    unit, metric, reference = "classifiers", ACCURACY, REFERENCE

    def __init__(self, nodes: Nodes, plain: NodeClassifier, plan: Plan, out: Path | None) -> None:
        self.nodes, self.plain, self.plan, self.out = nodes, plain, plan, out
        self.parts = split(nodes.labels, seed=plan.seed)

    def fingerprint(self, *, trained: bool) -> str:
        digest = hashlib.sha256(json.dumps([str(self.plan), str(self.plain), self.nodes.classes]).encode())
        graph = self.nodes.graph.adjacency
        for one in (graph.indptr, graph.indices, graph.data, self.nodes.offsets, self.nodes.values, self.nodes.labels):
            digest.update(np.ascontiguousarray(one).tobytes())
        return digest.hexdigest()

    def baseline(self) -> Outcome:
        return self.measure(Arm(self.reference, self.plain))

    def measure(self, arm: Arm) -> Outcome:
        outcome = Outcome({"method": arm.name, ACCURACY.name: None, "error": None})
        found: list[Classified] = []
        with metered() as cost:
            for seed in range(self.plan.seed, self.plan.seed + self.plan.seeds):
                with step(f"{arm.name}, seed {seed}"):
                    found.append(arm.method.fit(self.nodes, *self.parts[:2], epochs=self.plan.epochs, seed=seed))
        truth = self.nodes.labels[self.parts[2]]
        guesses = [one.scores[self.parts[2]].argmax(1) for one in found]
        right = np.stack([(guess == truth).astype(np.float64) for guess in guesses])
        outcome.sample = Sample(right, np.ones_like(right))
        classes = range(len(self.nodes.classes))
        outcome.row |= {ACCURACY.name: outcome.sample.value, "macro_f1": float(np.mean([macro_f1(truth, g, classes) for g in guesses]))}
        outcome.row |= {name: float(np.mean([one.facts[name] for one in found])) for name in found[0].facts}
        outcome.row |= {"seconds": cost.seconds / self.plan.seeds, "peak_mb": cost.peak_mb}
        outcome.curve = found[0].curve
        if self.out is not None:
            write_predictions(self.out / PREDICTIONS.format(arm.name), self.nodes, np.mean([np.exp(one.scores) for one in found], axis=0))
        return outcome


@dataclass(frozen=True)
class Judged:
    """`rows` as `--json` prints them, the reference first, then the best; the report that shows them."""

    rows: list[dict[str, Any]]
    report: Report


def classify(
    found: Found,
    *,
    methods: Sequence[str] = ("catgcn",),
    settings: Mapping[str, Mapping[str, Any]] = {},
    plan: Plan | None = None,
    out: Path | None = None,
) -> Judged:
    """Learn the labels with every method of `methods` ("all": each there is) beside simple graph convolution.

    With `out`, rows, predictions, `comparison.json` and `comparison.html` are kept there. Raises `ParameterError`: an unknown method,
    settings of one that is not asked for; `InputError`: too few labelled nodes.
    """
    plan = plan or Plan()
    plain, arms = arms_of("node-classifier", methods, settings, REFERENCE)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    bench = NodeBench(found.nodes, plain, plan, out)
    outcomes = run(bench, arms, 0, Kept(out, ROWS))
    rows = ranked([one.row for one in outcomes.values()], outcomes, bench.metric)
    report = report_of(bench.nodes, found.notes, tuple(map(len, bench.parts)), plan.seeds, rows, outcomes)
    if out is not None:
        save(out, {"rows": rows, "notes": list(found.notes)}, report)
    return Judged(rows, report)


def write_predictions(path: Path, nodes: Nodes, chances: Any) -> None:
    """Node, likeliest class, and the chance of each class, a node a row."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["node", "class", *nodes.classes])
        for name, row in zip(nodes.graph.names, chances, strict=True):
            writer.writerow([name, nodes.classes[int(row.argmax())], *(f"{value:.4f}" for value in row)])
