"""The bench of smaller tables, tested again on Frappe: who keeps a click model's quality at half, a tenth and a fiftieth of the memory?

The paper trains on Criteo and Avazu; here the model sees 10 fields of Frappe (app usage), its head is pairwise products and layers of 128
and 64, rows have 16 values, Adam 5e-3, batches of 1024, at most 400 steps with a tenth of the training rows to choose weights by. What is
expected was declared below before any full run, from the method's description and a look at 60 steps of one seed.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import kendalltau

from regraft.comparison import Arm, Outcome
from regraft.datasets.registry import fetch
from regraft.evaluation.paired import Measured, Sample
from regraft.method import members
from regraft.progress import step
from regraft.reproductions.harness.claim import Declared, Expectation
from regraft.reproductions.harness.record import Findings, Ledger
from regraft.tables.ctr.compare import At, Setup, TableBench
from regraft.tables.ctr.measure import influence, sample_of
from regraft.tables.ctr.models import make_model
from regraft.tables.ctr.training import Batch, Schedule, Trainer, scores
from regraft.tables.data.clicks import TEST, TRAIN, VALIDATION, Clicks, Meaning, Split, prepare
from regraft.tables.embeddings.robe import RobeEmbedding
from regraft.tables.fields import FieldTables
from regraft.tables.magnitude import BENCH
from regraft.tables.report.comparison import quality_figure

BUDGETS = (0.5, 0.1, 0.02)
STEPS, SEEDS = 400, 3
SETTINGS: dict[str, dict[str, Any]] = {"dhe": {"hashes": 64}, "dedup": {"block": 4}, "mgqe": {"centroids": 64, "few": 16}}  # of so few rows
ABOVE = {"int16": 0.51, "alpt": 0.6}  # which cannot do half, and say so
RANKING = ("hash", "unified", "adapt-emb", "mde", "compo", "tt-rec", "robe")  # worst first, at a tenth, by the method's description
AUC: dict[str, Any] = {"metric": "AUC", "unit": "AUC"}

OVER_HASH = {
    name: Declared(f"at a tenth, {name} is at least 0.01 over hashing by remainder", "hash at 0.1", Expectation(low=0.01), **AUC)
    for name in ("compo", "robe", "adapt-emb", "tt-rec", "mde")
}
FEWEST = {
    name: Declared(f"at a fiftieth, {name} is at least 0.05 over hashing by remainder", "hash at 0.02", Expectation(low=0.05), **AUC)
    for name in ("robe", "tt-rec")
}
NEAR = {
    name: Declared(f"{name} is within {band} of plain tables", "plain tables", Expectation(-band, band), **AUC)
    for name, band in (("int16", 0.002), ("int8", 0.01), ("alpt", 0.01))
}
UNIFIED = Declared(
    "at a tenth, one table with hashes for each field is at least 0.005 over a hash a field", "hash at 0.1", Expectation(low=0.005), **AUC
)  # fmt: skip
MGQE_FINER = Declared(
    "at half, codes that are finer for frequent ids are within 0.01 of plain tables", "plain tables", Expectation(low=-0.01), **AUC
)  # fmt: skip
ORDER = Declared(
    "at a tenth the ranking is that of the description: Kendall's tau of at least 0.5", "order by chance", Expectation(low=0.5),
    metric="Kendall's tau", unit="tau",
)  # fmt: skip
CONTROL = Declared(
    "control: with training labels dealt out anew, robe at a tenth tells nothing apart", "a half", Expectation(-0.1, 0.1), **AUC,
    note="What chance has taught may lie along or against what decides the labels, so the band is wide.",
)  # fmt: skip


@dataclass(frozen=True)
class Ranking(Measured):
    """How far an order of methods by AUC is the one that was expected, worst first."""

    samples: Sequence[Sample]

    @property
    def documents(self) -> int:
        return self.samples[0].documents

    @property
    def seeds(self) -> int:
        return self.samples[0].seeds

    @property
    def value(self) -> float:
        return self._tau([one.value for one in self.samples])

    def resample(self, documents: npt.NDArray[np.int64], seeds: npt.NDArray[np.int64]) -> float:
        return self._tau([one.resample(documents, seeds) for one in self.samples])

    def _tau(self, values: Sequence[float]) -> float:
        return float(kendalltau(np.arange(len(values)), values).statistic)


@dataclass(frozen=True)
class Dealt(Split):
    """Rows whose labels were dealt out anew."""

    def batch(self, rows: npt.NDArray[np.integer] | slice) -> Batch:
        ids, numbers, labels = super().batch(rows)
        dealt = self.clicks.labels[self.start : self.stop][np.random.default_rng(0).permutation(len(self))]
        return ids, numbers, labels.new_tensor(dealt[rows].astype(np.float32))


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 25 processor minutes in full, one with `quick`."""
    steps, seeds, budgets = (60, 1, (0.1,)) if quick else (STEPS, SEEDS, BUDGETS)
    schedule = Schedule(steps=steps, batch=1024, rate=5e-3)
    with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
        clicks = prepare(fetch("frappe", "train.libfm"), Meaning(), Path(folder) / "data", test=fetch("frappe", "test.libfm"))
        bench = TableBench(clicks, Setup(widths={"top": (128, 64)}, seeds=seeds, schedule=schedule))
        found = {"plain": bench.baseline()}
        for name, cls in methods(quick).items():
            for budget in (ABOVE.get(name, budgets[0]), *budgets[1:]):
                found[f"{name} at {budget}"] = bench.measure(Arm(f"{name} at {budget}", At(cls, budget, SETTINGS.get(name, {}))))
        dealt = control(bench, clicks)
    rows = [one.row for one in found.values()]
    ledger = Ledger(f"Frappe, {clicks.rows[0]:,} rows to train on, {clicks.rows[2]:,} to test on")
    settle(ledger, found, dealt, f"at most {steps} steps of 1024, {seeds} seed(s)")
    able, unable = [row for row in rows if row["error"] is None], [row for row in rows if row["error"] is not None]
    shown = [{key: value for key, value in row.items() if key not in ("behind_first", "error")} for row in able]
    floors = [{"method": row["method"], "why": row["error"]} for row in unable]
    figures = {"AUC beside memory": quality_figure(able[1:], able[0])}
    return Findings(BENCH, ledger.claims, {"methods": shown, "floors": floors}, {"Methods": shown, "Below the floor": floors}, figures)


def methods(quick: bool) -> dict[str, Any]:
    """All that learn with a model or are made of a trained table; a few with `quick`."""
    known: dict[str, Any] = {cls.name: cls for cls in members("table")}
    return {name: cls for name, cls in known.items() if not quick or name in ("hash", "robe", "compo")}


def settle(ledger: Ledger, found: Mapping[str, Outcome], dealt: Sample, how: str) -> None:
    """All claims whose methods are there and reach their budget."""
    samples = {name: one.sample for name, one in found.items() if isinstance(one.sample, Sample)}

    def claim(declared: Declared, baseline: str, method: str) -> None:
        if baseline in samples and method in samples:
            real = found[method].row["ratio"]
            against = found[baseline].row["ratio"]
            ledger.settle(declared, how, samples[baseline], samples[method], f"Real memory {real:.3f} against {against:.3f}.")

    for name, declared in OVER_HASH.items():
        claim(declared, "hash at 0.1", f"{name} at 0.1")
    for name, declared in FEWEST.items():
        claim(declared, "hash at 0.02", f"{name} at 0.02")
    for name, declared in NEAR.items():
        claim(declared, "plain", f"{name} at {ABOVE.get(name, 0.5)}")
    claim(UNIFIED, "hash at 0.1", "unified at 0.1")
    claim(MGQE_FINER, "plain", "mgqe at 0.5")
    ranked = [samples[f"{name} at 0.1"] for name in RANKING if f"{name} at 0.1" in samples]
    if len(ranked) > 2:
        chance = Sample(np.zeros_like(ranked[0].amounts), ranked[0].sizes)
        ledger.settle(ORDER, f"{how}; {len(ranked)} methods", chance, Ranking(ranked))
    half = Sample(np.full_like(dealt.amounts, 0.5) * dealt.sizes, dealt.sizes)
    ledger.settle(CONTROL, how, half, dealt)


def control(bench: TableBench, clicks: Clicks) -> Sample:
    """Influences on test AUC of models whose training labels, and those that choose their weights, say nothing."""
    found = []
    for seed in range(bench.setup.seeds):
        with step(f"labels dealt out anew, seed {seed}"):
            torch.manual_seed(seed)
            tables = FieldTables(clicks.sizes, bench.setup.dim, RobeEmbedding, 0.1)
            model = make_model("dlrm", tables, **bench.setup.widths)
            train, validation = (Dealt(clicks, one.start, one.stop) for one in (clicks.split(TRAIN), clicks.split(VALIDATION)))
            Trainer(model, train, validation, replace(bench.setup.schedule, seed=seed)).fit()
            found.append(influence(scores(model, clicks.split(TEST)), bench.labels))
    return sample_of(found)
