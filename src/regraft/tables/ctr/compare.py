"""Ways of making tables smaller beside plain tables, under one click model, at several budgets.

Enters: rows of clicks, a model, methods, budgets. Leaves: a row for each method at each budget, also where it could not be done: AUC and
log loss on test rows, memory as asked and as it is, in training too, what stages took, how fast rows are looked up; resumable.
"""

import hashlib
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regraft.comparison import Arm, Bench, Kept, Metric, Outcome, ranked, run, save
from regraft.errors import ParameterError
from regraft.method import members
from regraft.method.settings import accepted
from regraft.output import check_outside
from regraft.progress import step
from regraft.report import Report
from regraft.tables.ctr.after import tables_of
from regraft.tables.ctr.measure import auc, influence, interval, log_loss, sample_of
from regraft.tables.ctr.models import MODELS, CtrModel, make_model
from regraft.tables.ctr.training import Schedule, Trained, Trainer, labels_of, scores
from regraft.tables.data.clicks import TEST, TRAIN, VALIDATION, Clicks, Meaning, prepare
from regraft.tables.embedding import CompressedEmbedding
from regraft.tables.fields import FieldTables
from regraft.tables.memory import parse_budget
from regraft.tables.report.comparison import comparison_report

ROWS, PLAIN = "rows.jsonl", "plain"
METRIC = Metric("auc", "high", amounts="influence", sizes="rows")
LOOKED_UP, TIMES = 1 << 14, 9  # rows of random ids a look-up, and how often it is timed
KEYS = ("table", "asked", "ratio", "bytes", "auc", "auc_low", "auc_high", "log_loss", "training", "seconds", "stages", "lookup")


@dataclass(frozen=True)
class At:
    """A method at a budget, a share of the plain tables; None is plain tables."""

    method: type[CompressedEmbedding] | None = None
    asked: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return PLAIN if self.method is None else self.method.name

    def __str__(self) -> str:
        return f"{self.name} {self.asked} {json.dumps(dict(self.settings), sort_keys=True)}"


@dataclass(frozen=True)
class Setup:
    """What all arms share. model, widths : which click model, of which layers. dim : d of rows. seeds : how many trainings an arm."""

    model: str = "dlrm"
    widths: Mapping[str, Any] = field(default_factory=dict)
    dim: int = 16
    seeds: int = 3
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.dim < 1:
            raise ParameterError("compare needs at least 1 seed, and rows of at least 1 value")
        if self.model not in MODELS:
            raise ParameterError(f"--model {self.model}: choose {', '.join(MODELS)}")


class TableBench(Bench):
    """Click models that differ in their tables alone."""

    metric, reference = METRIC, PLAIN

    def __init__(self, clicks: Clicks, setup: Setup, folder: Path | None = None) -> None:
        self.clicks, self.setup, self.folder = clicks, setup, folder
        self.labels = labels_of(clicks.split(TEST))
        self.words = sum(clicks.sizes) * setup.dim

    def fingerprint(self, *, trained: bool) -> str:
        given = [self.clicks.digest, self.setup.model, dict(self.setup.widths), self.setup.dim, self.setup.seeds, repr(self.setup.schedule)]
        return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()

    def baseline(self) -> Outcome:
        return self._measured(Arm(PLAIN, At()))

    def measure(self, arm: Arm) -> Outcome:
        """All seeds of a method at a budget; one below the method's floor says in a line what the least is."""
        try:
            return self._measured(arm)
        except ParameterError as error:
            outcome = _blank(arm.name)
            outcome.row |= {"table": arm.method.name, "asked": arm.method.asked, "error": str(error)}
            return outcome

    def _measured(self, arm: Arm) -> Outcome:
        at: At = arm.method
        outcome, found, trained = _blank(arm.name), [], []
        for seed in range(self.setup.seeds):
            with step(f"{arm.name}, seed {seed}"):
                model, done = self.trained(arm, seed)
                found.append(scores(model, self.clicks.split(TEST)))
                trained.append(done)
        sample = sample_of([influence(one, self.labels) for one in found])
        low, high = interval(sample)
        memory = model.tables.memory()
        outcome.sample, outcome.curve = sample, trained[0].curve
        outcome.row |= {
            "table": at.name,
            "asked": at.asked,
            "ratio": memory.serving_words / self.words,
            "bytes": memory.serving_bytes,
            "auc": float(np.mean([auc(one, self.labels) for one in found])),
            "auc_low": low,
            "auc_high": high,
            "log_loss": float(np.mean([log_loss(one, self.labels).mean() for one in found])),
            "training": max(one.training_words for one in trained) / self.words,
            "seconds": statistics.mean(sum(one.seconds.values()) for one in trained),
            "stages": _stages(trained),
            "lookup": self._rate(model.tables),
        }
        if memory.serving_words > at.asked * self.words * (1 + 1e-6):
            outcome.notes.append(
                f"takes {outcome.row['ratio']:.3g} of the plain tables, more than the {at.asked:g} asked: its data decides"
            )
        return outcome

    def trained(self, arm: Arm, seed: int) -> tuple[CtrModel, Trained]:
        """One training; what is finished of it lies in a folder until all of it is."""
        at, clicks, setup = arm.method, self.clicks, self.setup
        torch.manual_seed(seed)
        tables = tables_of(at.method, clicks.sizes, setup.dim, at.asked, counts=clicks.counts, **at.settings)
        model = make_model(setup.model, tables, len(clicks.numeric), **setup.widths)
        folder = None
        if self.folder is not None:
            name = hashlib.sha256(f"{self.fingerprint(trained=True)} {arm.settings}".encode()).hexdigest()[:16]
            folder = self.folder / f"{name}-{seed}"
        schedule = Schedule(**{**vars(setup.schedule), "seed": setup.schedule.seed + seed})
        done = Trainer(model, clicks.split(TRAIN), clicks.split(VALIDATION), schedule, folder).fit()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        return model, done

    def _rate(self, tables: FieldTables) -> float:
        """Look-ups of random ids a second by those of plain tables, timed in turn."""
        draw = torch.Generator().manual_seed(0)
        ids = torch.stack([torch.randint(0, size, (LOOKED_UP,), generator=draw) for size in self.clicks.sizes], 1)
        plain = FieldTables(self.clicks.sizes, self.setup.dim)
        seconds: dict[FieldTables, list[float]] = {plain: [], tables: []}
        with torch.no_grad():
            for _ in range(TIMES + 2):
                for one, taken in seconds.items():
                    start = time.perf_counter()
                    one(ids)
                    taken.append(time.perf_counter() - start)
        own, other = (statistics.median(seconds[one][2:]) for one in (tables, plain))
        return other / own


def _blank(name: str) -> Outcome:
    return Outcome({"method": name, **dict.fromkeys(KEYS), "behind_first": None, "error": None})


def _stages(trained: Sequence[Trained]) -> str:
    means = {name: statistics.mean(one.seconds[name] for one in trained if name in one.seconds) for name in trained[0].seconds}
    return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in means.items())


@dataclass(frozen=True)
class Compared:
    """`rows` as `--json` prints them, plain tables first, then the best; a recommendation a budget; the report that shows them."""

    rows: list[dict[str, Any]]
    recommended: list[dict[str, Any]]
    report: Report


def compare(
    path: str | Path,
    meaning: Meaning,
    *,
    kind: str = "auto",
    test: str | Path | None = None,
    budgets: Sequence[str | float] = (0.5, 0.1, 0.02),
    methods: Sequence[str] | str = "all",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    setup: Setup = Setup(),  # frozen
    out: Path | None = None,
) -> Compared:
    """Train the model on the rows of `path` with plain tables, and with each of `methods` at each of `budgets`.

    Raises `InputError`s in one line: a file, column or label that is not right, unknown methods or settings, a budget of nothing or above
    the plain tables. A budget below a method's floor is a row that says so.
    """
    chosen = chosen_methods(methods)
    for name, own in (settings or {}).items():
        cls = next((one for one in chosen if one.name == name), None)
        if cls is None:
            raise ParameterError(f"--set {name}.…: no such method is compared; these are: {', '.join(one.name for one in chosen)}")
        counts = {"counts": torch.ones(1)} if cls.counts_rows else {}
        accepted(cls, {"num_embeddings": 1, "embedding_dim": 1, **counts, **own})
    if not budgets:
        raise ParameterError("--budgets names none: give shares as 0.5,0.1,0.02")
    for one in budgets:
        parse_budget(one, 1000)  # before the long work, those that are none or outside
    if out is not None:
        check_outside(out, [Path(path)])
    with tempfile.TemporaryDirectory(prefix="regraft-") as temporary:
        place = out or Path(temporary)
        clicks = prepare(path, meaning, place / "data", kind=kind, test=test)
        bench = TableBench(clicks, setup, None if out is None else out / "state")
        shares = sorted({parse_budget(one, bench.words) / bench.words for one in budgets}, reverse=True)
        arms = [Arm(f"{cls.name} at {share:.3g}", At(cls, share, (settings or {}).get(cls.name, {}))) for share in shares for cls in chosen]
        outcomes = run(bench, arms, 0, Kept(out, ROWS))
        rows = ranked([one.row for one in outcomes.values()], outcomes, METRIC)
        report, recommended = comparison_report(rows, outcomes, clicks, setup)
        if out is not None:
            save(out, {"rows": rows, "recommended": recommended}, report)
            shutil.rmtree(out / "state", ignore_errors=True)
    return Compared(rows, recommended, report)


def chosen_methods(methods: Sequence[str] | str) -> list[type[CompressedEmbedding]]:
    """The classes that `methods` name, or all. Raises `ParameterError` for names that none has."""
    known: dict[str, Any] = {one.name: one for one in members("table")}
    if methods in ("all", ["all"], ("all",)):
        return list(known.values())
    names = list(dict.fromkeys(name.strip().lower().replace("_", "-") for name in methods))
    if not names:
        raise ParameterError("--methods names no method: give names with commas between, or all; `regraft methods --family table`")
    for name in names:
        if name not in known:
            raise ParameterError(f"--methods {name}: no such method: choose all, or of {', '.join(known)}")
    return [known[name] for name in names]
