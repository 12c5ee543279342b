"""Word models beside each other: one corpus, one dimension, the same tasks, random vectors as the baseline, and advice.

Enters: texts, models, tasks. Leaves: one row a model, best first, with its performance gain ratio; a page; rows from which a comparison
that was killed goes on.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regraft.comparison import Arm, Bench, Kept, Outcome, check_out, ranked, run, save, tables_of
from regraft.errors import ParameterError
from regraft.meter import metered
from regraft.method import list_methods, resolve
from regraft.method.settings import parameters
from regraft.report import Report
from regraft.report.figures import bars, training_curves
from regraft.text.tasks.files import open_any
from regraft.text.tasks.quality import MeanQuality, Quality
from regraft.text.tasks.task import Task
from regraft.text.words.corpus import Words
from regraft.text.words.measuring import Coverage, performance_gain_ratio, random_vectors
from regraft.text.words.model import Floats, WordModel
from regraft.text.words.train import Reading, Watch, sources_of
from regraft.text.words.trainer import fit

ROWS = "rows.jsonl"
RANDOM = "random"
BILLION = 1_000_000_000
TASKS = ("words", "simlex", "trec")


class WordBench(Bench):
    """Models trained on the same words, ranked by the mean over tasks; the baseline is random vectors of the same size."""

    metric, unit, reference = MeanQuality("quality", "high"), "models", RANDOM

    def __init__(self, words: Words, reading: Reading, tasks: Sequence[Task], dim: int, watched: Mapping[str, Any]) -> None:
        self.words, self.reading, self.dim, self.watched = words, reading, dim, dict(watched)
        self.covered: list[Coverage] = reading.coverage(words, tasks, self.watched["dev"])
        self.tasks = [task for task, one in zip(tasks, self.covered, strict=True) if one.enough]

    def fingerprint(self, *, trained: bool) -> str:
        dev = self.watched["dev"]
        about = {**self.watched, "dev": dev and dev.sha256, "tasks": [task.sha256 for task in self.tasks], "dim": self.dim}
        given = [self.words.sha256, str(self.reading), sorted((name, str(value)) for name, value in about.items() if name != "workers")]
        return hashlib.sha256(json.dumps(given).encode()).hexdigest()

    def baseline(self) -> Outcome:
        outcome = Outcome({"method": RANDOM, "quality": None, "error": None})
        outcome.notes += [one.note for one in self.covered if not one.enough]
        return self._measured(outcome, random_vectors(self.words, self.dim))

    def measure(self, arm: Arm) -> Outcome:
        outcome = Outcome({"method": arm.name, "quality": None, "error": None})
        watch = Watch(self.reading, self.words, [], self.watched["dev"], self.watched["patience"])
        with metered() as cost:
            fitted = fit(arm.method, self.words, seed=self.watched["seed"], workers=self.watched["workers"], after=watch)
        vectors, epoch = watch.kept(fitted)
        self._measured(outcome, vectors)
        outcome.row |= {"epoch": epoch, "passes": len(fitted.epochs), "validation_loss": fitted.epochs[epoch - 1].validation}
        outcome.row |= {"words_per_second": round(fitted.words_per_second), "seconds": cost.seconds, "peak_mb": cost.peak_mb}
        if fitted.diverged is not None:
            outcome.notes.append(fitted.diverged)
        if self.watched["dev"] is not None:
            key = f"dev:{self.watched['dev'].name}"
            outcome.curve = [(float(row["epoch"]), float(row[key])) for row in watch.rows]
            outcome.row["loss_lowest_at"] = min(fitted.epochs, key=lambda one: one.validation or 0).number
        return outcome

    def _measured(self, outcome: Outcome, vectors: Floats) -> Outcome:
        encode = self.reading.encode(self.words, vectors)
        if found := {task.name: task.measure(encode) for task in self.tasks}:
            outcome.sample = Quality(found)
            outcome.row |= {"quality": outcome.sample.value} | {name: one.value for name, one in found.items()}
        return outcome


@dataclass(frozen=True)
class Compared:
    """`rows` as `--json` prints them, the baseline first, then the best; `advice` in one line; the report that shows them."""

    rows: list[dict[str, Any]]
    advice: str
    report: Report


def compare(
    corpus: Sequence[str | Path],
    models: str = "all",
    *,
    settings: Mapping[str, Any] | None = None,
    out: Path | None = None,
    reading: Reading | None = None,
    tasks: Sequence[str] = TASKS,
    dev: str | None = None,
    patience: int = 3,
    seed: int = 0,
    workers: int = 1,
) -> Compared:
    """Train each of `models` (names with commas, or "all") on `corpus` and measure it on `tasks` (by default words, simlex, trec).

    A field of `settings` goes to every model that has it. Raises `ParameterError` for an unknown model, task, or a field that none has.
    """
    arms = [Arm(model.name, model) for model in _models(models, settings or {})]
    if out is not None:
        check_out(out, sources_of(corpus))
    dims = {arm.method.dim for arm in arms}
    opened, dev_task = [open_any(name) for name in tasks or TASKS], open_any(dev) if dev else None
    words = (reading := reading or Reading()).words(corpus)
    bench = WordBench(words, reading, opened, max(dims), {"dev": dev_task, "patience": patience, "seed": seed, "workers": workers})
    if not bench.tasks:
        few = ", ".join(f"{one.task} {one}" for one in bench.covered)
        raise ParameterError(
            f"too few words of the tasks are known to this corpus ({few}): give more text, or tasks on its words (--tasks)"
        )
    outcomes = run(bench, arms, 0, Kept(out, ROWS))
    rows = ranked([one.row for one in outcomes.values()], outcomes, bench.metric)
    measured = [row["quality"] for row in rows if row["quality"] is not None]
    for row in rows:
        if row["quality"] is not None:
            row["pgr"] = performance_gain_ratio(row["quality"], rows[0]["quality"], max(measured))
    advice = advise(rows, words.total)
    report = _report(rows, outcomes, bench, advice)
    if out is not None:
        save(out, {"rows": rows, "advice": advice}, report)
    return Compared(rows, advice, report)


def _models(written: str, settings: Mapping[str, Any]) -> list[WordModel]:
    classes = {cls.name: cls for cls in list_methods("word-model")}
    names = list(classes) if written == "all" else [name.strip() for name in written.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise ParameterError(f"--compare {written}: give different models with commas between, or all")
    has = {name: set(parameters(type(resolve("word-model", name)))) for name in names}
    for field in settings:
        if not any(field in fields for fields in has.values()):
            raise ParameterError(f"--set {field}: no model that is compared has it")
    return [resolve("word-model", name, {k: v for k, v in settings.items() if k in has[name]}) for name in names]


def advise(rows: Sequence[Mapping[str, Any]], total: int) -> str:
    """What the figures say to do, in a line or two; `rows` are ranked, random vectors first, and `total` is the words of the text."""
    measured = [row for row in rows[1:] if row.get("quality") is not None]
    if not measured:
        return "No model could be measured."
    best = max(measured, key=lambda row: row["quality"])
    if best["quality"] <= rows[0]["quality"] or rows[0].get("behind_first_low", 1) <= 0:
        said = f"Nothing was learned that these tasks show: {best['method']}, the best, has {best['quality']:.3f}"
        said += f" and is not surely above random vectors ({rows[0]['quality']:.3f})"
        return f"{said}. {total:,} words are too few for it: give more text, or tasks of its domain (--tasks)."
    close = [row for row in measured if row is not best and row.get("behind_first_low", 1) <= 0]
    quick = max([best, *close], key=lambda row: row["words_per_second"])
    said = f"Take {best['method']}"
    if quick is not best:
        said += (
            f", or {quick['method']}, which is not surely behind and {quick['words_per_second'] / best['words_per_second']:.1f} x as fast"
        )
    watched = "loss_lowest_at" in best  # else the last pass is not known to be the best
    if watched and best["epoch"] == best["passes"]:
        said += "; it was best after its last pass, so try more of them (--set epochs=N)"
    elif watched:
        said += f"; stop after pass {best['epoch']}, where the development task is best"
    if total < BILLION:
        said += f". {total:,} words are few: text of the task's own domain helps more than more text"
    return said + "."


def _report(rows: list[dict[str, Any]], outcomes: Mapping[str, Outcome], bench: WordBench, advice: str) -> Report:
    report = Report("Word models", advice)
    report.add_figure(
        "Quality", bars({row["method"]: row["quality"] for row in rows}, title="mean over tasks", untouched=RANDOM, ascending=False)
    )
    curves = {name: one.curve for name, one in outcomes.items() if one.curve}
    if curves:
        report.add_figure("Development task", training_curves(curves, x_title="passes", y_title=bench.watched["dev"].name))
    covered = {one.task: one for one in bench.covered}
    about = ", ".join(f"{task.name}: {task.metric}, words of {covered[task.name]} known" for task in bench.tasks)
    caption = (
        f"{about}. quality is their mean; pgr, the performance gain ratio, is how far it is from random vectors (0) to the best model "
        f"(100). {bench.dim} dimensions, {bench.words.total:,} words of text. A text without a known word is near to nothing."
    )
    for table in tables_of(rows, outcomes, bench.metric, caption):
        report.add_table(**table)
    return report
