"""Encoders beside each other on the same tasks: quality, speed and size on this machine.

Enters: checkpoints, each with a way of encoding, and tasks. Leaves: one row an encoder, best first, how surely each is behind the first
over the same documents, the page, and the rows, so that an interrupted comparison goes on where it stopped.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regraft.comparison import Arm, Bench, Kept, Outcome, check_out, ranked, run, save, tables_of
from regraft.errors import ParameterError
from regraft.meter import metered
from regraft.progress import step
from regraft.report import Report
from regraft.text.encoder import written as encoder_written
from regraft.text.loading import content_hash
from regraft.text.report.figures import quality_by_speed
from regraft.text.tasks.files import open_any
from regraft.text.tasks.named import NAMED
from regraft.text.tasks.quality import MeanQuality, Quality
from regraft.text.tasks.task import Task, encoder

ROWS = "rows.jsonl"
TIMED = 256  # texts whose encoding is timed


@dataclass(frozen=True)
class Candidate:
    """A checkpoint and how it encodes, as the user wrote it: `DIR`, `DIR@mean`, `DIR@prompt-eol:layer=26`."""

    source: str
    encoder: Any

    @classmethod
    def parse(cls, written: str) -> "Candidate":
        """Raises `ParameterError` for an unknown way of encoding or a setting that it does not have."""
        source, at, way = written.rpartition("@")
        if not at or "/" in way:
            source, way = written, "as-is"
        return cls(source, encoder_written(way))

    def __str__(self) -> str:
        return f"{content_hash(self.source)} {self.encoder}"


class TaskBench(Bench):
    """Encoders, ranked by the mean over tasks. The first one given is the baseline."""

    metric, unit = MeanQuality("quality", "high"), "encoders"

    def __init__(
        self, tasks: Sequence[Task], first: tuple[str, Candidate], *, max_tokens: int | None, batch_size: int, device: str
    ) -> None:
        self.tasks, self.first = list(tasks), first
        self.reference = first[0]
        self.max_tokens, self.batch_size, self.device = max_tokens, batch_size, device

    def fingerprint(self, *, trained: bool) -> str:
        given = [[(task.name, task.sha256) for task in self.tasks], self.max_tokens, str(self.first[1])]
        return hashlib.sha256(json.dumps(given).encode()).hexdigest()

    def baseline(self) -> Outcome:
        return self.measure(Arm(*self.first))

    def measure(self, arm: Arm) -> Outcome:
        """Every task, the speed over the first texts of the first task, the size of weights and of a vector."""
        outcome = Outcome({"method": arm.name, self.metric.name: None, "error": None})
        candidate: Candidate = arm.method
        with metered() as cost:
            with step(f"loading {arm.name}"):
                model = candidate.encoder.build(candidate.source, max_tokens=self.max_tokens, device=self.device)
            encode = encoder(model, self.batch_size)
            found = {}
            for task in self.tasks:
                with step(f"{arm.name}: {task.name}, {task.documents:,} documents"):
                    found[task.name] = task.measure(encode)
        outcome.sample = Quality(found)
        outcome.row |= {"quality": outcome.sample.value} | {name: one.value for name, one in found.items()}
        outcome.row |= {
            "texts_per_second": self._speed(encode),
            "dimensions": int(model.get_embedding_dimension() or 0),
            "weights_mb": sum(p.numel() * p.element_size() for p in model.parameters()) / 1e6,
            "seconds": cost.seconds,
            "peak_mb": cost.peak_mb,
        }
        return outcome

    def _speed(self, encode: Any) -> float:
        texts = self.tasks[0].typical[:TIMED]
        encode(texts[:8], "text")  # the first call compiles and allocates
        start = time.perf_counter()
        encode(texts, "text")
        return len(texts) / (time.perf_counter() - start)


@dataclass(frozen=True)
class Compared:
    """`rows` as `--json` prints them, the baseline first, then the best; the report that shows them."""

    rows: list[dict[str, Any]]
    report: Report


def compare(
    models: Sequence[str],
    *,
    tasks: str = "sts",
    out: Path | None = None,
    max_tokens: int | None = None,
    batch_size: int = 32,
    device: str = "cpu",
) -> Compared:
    """Measure each of `models` (`DIR`, or `DIR@ENCODER:setting=value`) on `tasks` (names and files with commas between).

    With `out`, rows, `comparison.json` and `comparison.html` are kept there. Raises `ParameterError`: unknown tasks or encoders, the same
    model twice.
    """
    if len(set(models)) < len(models):
        raise ParameterError("the same model twice: give each once, or with another way of encoding (MODEL@mean)")
    candidates = {name: Candidate.parse(written) for name, written in _named(models).items()}
    if out is not None:
        check_out(out, [Path(one.source) for one in candidates.values() if Path(one.source).is_dir()])
    opened = [open_any(name) for name in tasks.split(",") if name.strip()]
    if not opened:
        raise ParameterError(f"no task given: choose from {', '.join(NAMED)}, or give a file or folder")
    first, *others = candidates.items()
    bench = TaskBench(opened, first, max_tokens=max_tokens, batch_size=batch_size, device=device)
    outcomes = run(bench, [Arm(*one) for one in others], 0, Kept(out, ROWS))
    rows = ranked([one.row for one in outcomes.values()], outcomes, bench.metric)
    report = report_of(bench, rows, outcomes)
    if out is not None:
        save(out, {"rows": rows}, report)
    return Compared(rows, report)


def report_of(bench: TaskBench, rows: list[dict[str, Any]], outcomes: Mapping[str, Outcome]) -> Report:
    """Table and picture."""
    measured = [row for row in rows if row["quality"] is not None]
    best = max(measured, key=lambda row: row["quality"])
    fastest = max(measured, key=lambda row: row["texts_per_second"])
    lead = f"{best['method']} is best: {best['quality']:.3f} on average over {len(bench.tasks)} task(s)."
    if fastest is not best:
        lead += f" {fastest['method']} encodes {fastest['texts_per_second'] / best['texts_per_second']:.1f} times as fast."
    report = Report("Text encoders", lead)
    if len(measured) > 1:
        report.add_figure("Quality beside speed", quality_by_speed(measured), "Up and to the right is better; speed as measured here.")
    about = ", ".join(f"{task.name}: {task.metric} of {task.documents:,}" for task in bench.tasks)
    caption = f"{about}. quality is their mean; behind_first with half its 95 % interval over the same documents."
    for table in tables_of(rows, outcomes, bench.metric, caption):
        report.add_table(**table)
    return report


def _named(models: Sequence[str]) -> dict[str, str]:
    """Short names: the last part of the path, or all of it where two end alike."""
    short = [written.rstrip("/").split("/")[-1] if "@" not in written.split("/")[-1] else written.split("/")[-1] for written in models]
    return {name if short.count(name) == 1 else written: written for name, written in zip(short, models, strict=True)}
