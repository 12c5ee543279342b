"""Unified Embedding, tested again: does one table for all features keep more than hashed tables of their own, in the same memory?

The paper trains DCN-V2 on Criteo, Avazu and MovieLens 1M. Here pairwise products with layers of 128 and 64 over rows of 16 values see
Frappe (10 fields) and MovieLens 100k (8 fields; ratings of 4 and 5 against 1 and 2, threes dropped), Adam 5e-3, batches of 1024, at most
400 steps with a tenth of the training rows to choose weights by. Both arms have the same number of rows: tables of their own get theirs in
proportion to the values of a field, and a field that has as many rows as values is exact. What is expected was declared below before any
full run, from the method's description and figures of one seed in it.
"""

import csv
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from regraft.datasets.registry import fetch
from regraft.evaluation.paired import Sample
from regraft.progress import step
from regraft.reproductions.harness.claim import Declared, Expectation
from regraft.reproductions.harness.record import Findings, Ledger
from regraft.reproductions.table_compression import Dealt
from regraft.tables.ctr.measure import influence, sample_of
from regraft.tables.ctr.models import CtrModel, make_model
from regraft.tables.ctr.training import Schedule, Trainer, labels_of, scores
from regraft.tables.data.clicks import TEST, TRAIN, VALIDATION, Clicks, Meaning, prepare
from regraft.tables.embeddings.hash import HashEmbedding
from regraft.tables.embeddings.unified import UnifiedEmbedding
from regraft.tables.fields import FieldTables
from regraft.tables.unified.features import split_rows
from regraft.tables.unified.probes import mean_angle

DIM = 16
HALF, TENTH, FIFTIETH = BUDGETS = 0.5, 0.1, 0.02
COLUMNS = ("user", "age", "gender", "occupation", "zip", "film", "year", "genre")
OWN, SHARED, PLAIN = "tables of their own", "one table", "plain tables"
AUC: dict[str, Any] = {"metric": "AUC", "unit": "AUC"}

BETTER = {
    share: Declared(f"at {share}, one table is better than hashed tables of their own", OWN, Expectation(low=0.0), **AUC)
    for share in BUDGETS
}
BY = {
    name: Declared(f"at a tenth, one table is at least {least} over hashed tables of their own", OWN, Expectation(low=least), **AUC)
    for name, least in (("Frappe", 0.008), ("MovieLens 100k", 0.005))
}
WIDER = {
    (more, less): Declared(f"the gain at {less} is greater than at {more}", f"the gain at {more}", Expectation(low=0.0), **AUC)
    for more, less in ((HALF, TENTH), (TENTH, FIFTIETH))
}
KEPT = Declared("at half, one table is no more than 0.02 behind plain tables", PLAIN, Expectation(low=-0.02), **AUC)
NORMS = Declared(
    "rows grow longer the more values share one: mean squared norm at a tenth at least three times that at the whole",
    "one table as large as all",
    Expectation(low=2.0),
    metric="mean squared norm of rows",
    unit="norm",
    kind="ratio",
)
TURNED = Declared("read-outs that begin alike turn apart: a mean angle of at least 40 degrees at a tenth", "at the start",
                  Expectation(low=40.0), metric="mean angle between read-outs of fields", unit="degree")  # fmt: skip
FURTHER = Declared("read-outs turn further apart in a smaller table: at a fiftieth against a half", "at a half", Expectation(low=0.0),
                   metric="mean angle between read-outs of fields", unit="degree")  # fmt: skip
CONTROL = Declared("control: with training labels dealt out anew, one table at a tenth tells nothing apart", "a half",
                   Expectation(-0.1, 0.1), **AUC)  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    steps: int = 400
    seeds: int = 3
    budgets: tuple[float, ...] = BUDGETS


class Readout(CtrModel):
    """A linear reading of each field's row, all readings alike at first."""

    def __init__(self, tables: FieldTables, numbers: int = 0) -> None:
        super().__init__(tables, numbers)
        self.weight = nn.Parameter((torch.randn(self.dim) / self.dim**0.5).repeat(self.fields).unsqueeze(0))
        self.bias = nn.Parameter(torch.zeros(1))

    def head(self, rows: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = nn.functional.linear(rows.flatten(1), self.weight, self.bias).squeeze(1)
        return found


@dataclass
class Bench:
    """Models that differ in their tables alone, on one set of rows."""

    name: str
    clicks: Clicks
    size: Size
    found: dict[str, list[Any]] = field(default_factory=dict)
    words: dict[str, float] = field(default_factory=dict)
    norms: dict[str, list[float]] = field(default_factory=dict)
    turned: dict[float, list[float]] = field(default_factory=dict)
    dealt: list[Any] = field(default_factory=list)

    def all(self) -> None:
        """Every arm under every seed."""
        for seed in range(self.size.seeds):
            self.arm(PLAIN, seed, lambda: FieldTables(self.clicks.sizes, DIM))
            self.arm(f"{SHARED} at 1", seed, lambda: self.shared(1.0))
            for share in self.size.budgets:
                self.arm(f"{OWN} at {share}", seed, partial(self.own, share))
                self.arm(f"{SHARED} at {share}", seed, partial(self.shared, share))
                with step(f"{self.name}: read-outs at {share}, seed {seed}"):
                    model = self.trained(seed, partial(self.readout, share))
                    self.turned.setdefault(share, []).append(mean_angle(model.state_dict()["weight"], [DIM] * model.fields))
            with step(f"{self.name}: labels dealt out anew, seed {seed}"):
                model = self.trained(seed, lambda: make_model("dlrm", self.shared(TENTH), top=(128, 64)), dealt=True)
                self.dealt.append(self.influences(model))

    def own(self, share: float) -> FieldTables:
        """A hashed table for each field, of as many rows in all as one table has."""
        sizes = self.clicks.sizes
        tables = FieldTables(sizes, DIM)
        for place, (size, rows) in enumerate(zip(sizes, split_rows(sizes, int(sum(sizes) * share)), strict=True)):
            if rows < size:
                tables.tables[place] = HashEmbedding(size, DIM, share=(rows - 0.5) / size)  # of which the rows are the ceiling
        return tables

    def shared(self, share: float) -> FieldTables:
        sizes = self.clicks.sizes
        tables = FieldTables(sizes, DIM, layout="fused")
        tables.tables[0] = UnifiedEmbedding(sum(sizes), DIM, share=share, fields=sizes, names=self.clicks.fields)
        return tables

    def readout(self, share: float) -> CtrModel:
        return Readout(self.shared(share))

    def arm(self, name: str, seed: int, made: Callable[[], FieldTables]) -> None:
        with step(f"{self.name}: {name}, seed {seed}"):
            model = self.trained(seed, lambda: make_model("dlrm", made(), top=(128, 64)))
            self.found.setdefault(name, []).append(self.influences(model))
            self.words[name] = model.tables.memory().serving_words
            rows = torch.cat([one.detach() for one in model.tables.parameters()])
            self.norms.setdefault(name, []).append(float(rows.square().sum(1).mean()))

    def trained(self, seed: int, made: Callable[[], CtrModel], *, dealt: bool = False) -> CtrModel:
        torch.manual_seed(seed)
        model = made()
        train, validation = (self.clicks.split(split) for split in (TRAIN, VALIDATION))
        if dealt:
            train, validation = (Dealt(self.clicks, one.start, one.stop) for one in (train, validation))
        Trainer(model, train, validation, Schedule(steps=self.size.steps, batch=1024, rate=5e-3, seed=seed)).fit()
        return model

    def influences(self, model: CtrModel) -> Any:
        rows = self.clicks.split(TEST)
        return influence(scores(model, rows), labels_of(rows))

    def sample(self, name: str) -> Sample:
        return sample_of(self.found[name])

    def gain(self, share: float) -> Sample:
        """Of one table over tables of their own."""
        mine, other = self.sample(f"{SHARED} at {share}"), self.sample(f"{OWN} at {share}")
        return Sample(mine.amounts - other.amounts, mine.sizes)

    def settle(self) -> list[Any]:
        """All claims on these rows."""
        rows = self.clicks.rows
        ledger = Ledger(f"{self.name}, {rows[0]:,} rows to train on, {rows[2]:,} to test on")
        how = f"at most {self.size.steps} steps of 1024, {self.size.seeds} seed(s)"
        for share in self.size.budgets:
            pair = self.sample(f"{OWN} at {share}"), self.sample(f"{SHARED} at {share}")
            note = f"{self.words[f'{SHARED} at {share}']:,.0f} words against {self.words[f'{OWN} at {share}']:,.0f}."
            ledger.settle(BETTER[share], how, *pair, note)
            if share == TENTH:
                ledger.settle(BY[self.name], how, *pair, note)
        for (more, less), declared in WIDER.items():
            if {more, less} <= set(self.size.budgets):
                ledger.settle(declared, how, self.gain(more), self.gain(less))
        if HALF in self.size.budgets:
            ledger.settle(KEPT, how, self.sample(PLAIN), self.sample(f"{SHARED} at {HALF}"))
            ledger.settle(FURTHER, how, of_seeds(self.turned[HALF]), of_seeds(self.turned[FIFTIETH]))
        ledger.settle(NORMS, how, of_seeds(self.norms[f"{SHARED} at 1"]), of_seeds(self.norms[f"{SHARED} at {TENTH}"]))
        ledger.settle(TURNED, how, of_seeds([0.0] * self.size.seeds), of_seeds(self.turned[TENTH]))
        dealt = sample_of(self.dealt)
        ledger.settle(CONTROL, how, Sample(np.full_like(dealt.amounts, 0.5) * dealt.sizes, dealt.sizes), dealt)
        return ledger.claims

    def rows(self) -> list[dict[str, Any]]:
        """Of the report."""
        whole = sum(self.clicks.sizes) * DIM
        return [
            {"data": self.name, "tables": name, "AUC": self.sample(name).value, "of plain": words / whole,
             "squared norm of rows": float(np.mean(self.norms[name]))}
            for name, words in self.words.items()
        ]  # fmt: skip

    def angles(self) -> list[dict[str, Any]]:
        return [{"data": self.name, "one table at": share, "mean angle": float(np.mean(found))} for share, found in self.turned.items()]


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 8 processor minutes in full, half a minute with `quick`."""
    size = Size(steps=60, seeds=1, budgets=(TENTH,)) if quick else Size()
    with tempfile.TemporaryDirectory(prefix="regraft-") as name:
        folder = Path(name)
        apps = prepare(fetch("frappe", "train.libfm"), Meaning(), folder / "apps", test=fetch("frappe", "test.libfm"))
        train, test = movielens(folder)
        films = prepare(train, Meaning(label="label", categorical=COLUMNS), folder / "films", test=test)
        benches = [Bench("Frappe", apps, size), Bench("MovieLens 100k", films, size)]
        for bench in benches:
            bench.all()
        claims = [claim for bench in benches for claim in bench.settle()]
        rows, angles = ([row for bench in benches for row in got(bench)] for got in (Bench.rows, Bench.angles))
    return Findings(
        UnifiedEmbedding.paper, claims, {"tables": rows, "angles": angles}, {"Tables": rows, "Angles between read-outs": angles}
    )


def of_seeds(values: Sequence[float]) -> Sample:
    """One value a seed."""
    amounts = np.array(values, dtype=np.float64)[:, None]
    return Sample(amounts, np.ones_like(amounts))


def movielens(folder: Path) -> tuple[Path, Path]:
    """Ratings but threes, with what is known of viewer and film, as CSV files: four fifths, and a fifth to test on, drawn by chance."""
    users = {row[0]: row[1:] for row in _rows("ml-100k.user")}
    films = {row[0]: [row[2] or "-", (row[3].split() or ["-"])[0]] for row in _rows("ml-100k.item")}
    ratings = [
        [str(int(float(rating) > 3)), user, *users[user], film, *films[film]]
        for user, film, rating, _ in _rows("ml-100k.inter")
        if float(rating) != 3
    ]
    order = np.random.default_rng(2023).permutation(len(ratings))
    cut = len(order) * 4 // 5
    paths = folder / "train.csv", folder / "test.csv"
    for path, part in zip(paths, (order[:cut], order[cut:]), strict=True):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["label", *COLUMNS])
            writer.writerows(ratings[place] for place in part)
    return paths


def _rows(file: str) -> list[list[str]]:
    with fetch("ml-100k", file).open(encoding="utf-8", newline="") as opened:
        _, *rows = csv.reader(opened, delimiter="\t", quoting=csv.QUOTE_NONE)
    return rows
