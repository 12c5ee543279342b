"""An encoder trained, measured before and after on tasks that it has not seen, and written whole.

Enters: a checkpoint, a way of training, examples, a budget in steps. Leaves: a directory of sentence-transformers with `regraft.json` and a
page. A killed training goes on from its last state when the same command is given again.
"""

import hashlib
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from regraft import provenance
from regraft.checkpoint import Checkpoint
from regraft.errors import ParameterError
from regraft.evaluation.paired import Measured, paired_effect
from regraft.method import resolve
from regraft.output import atomic_directory, check_output
from regraft.progress import step
from regraft.report import Report
from regraft.report.figures import training_curves
from regraft.text.encoder import Encoder, written
from regraft.text.examples import digest, read_examples
from regraft.text.fitting import Budget
from regraft.text.loading import content_hash, is_stock
from regraft.text.tasks.files import open_any
from regraft.text.tasks.task import Task, encoder
from regraft.text.tuner import Tuner

Found = dict[str, Measured]


def train(
    source: str | Path,
    examples: Sequence[str],
    *,
    out: Path,
    method: str = "contrastive",
    settings: Mapping[str, Any] | None = None,
    encode_by: str = "as-is",
    budget: Budget | None = None,
    tasks: str = "sts",
    max_tokens: int | None = None,
    overwrite: bool = False,
) -> tuple[Report, dict[str, Any]]:
    """Train the encoder of `source` by `method` and write it to `out`; the report and the figures say what it gained.

    Parameters
    ----------
    examples : files, or names of data sets (`regraft.text.examples`). encode_by : the way of encoding that is trained. tasks : measured
        before and after; "" measures nothing.

    Raises an `InputError` in one line for a source, method, examples or tasks that do not fit, before anything is trained.
    """
    budget, start = budget or Budget(), time.perf_counter()
    root = Path(source) if Path(source).exists() else Checkpoint.open(source).path
    check_output(out, overwrite=overwrite, sources=[root])
    tuner: Tuner = resolve("tuner", method, settings)
    way: Encoder = written(encode_by)
    measured = [open_any(name) for name in tasks.split(",") if name.strip()]
    data, kind = read_examples(examples, tuner.takes)
    given = provenance.Given(root, content_hash(root))
    key = hashlib.sha256(repr((given.digest, str(tuner), str(way), digest(data), asdict(replace(budget, state=None)))).encode()).hexdigest()
    state = out.resolve().parent / f".{out.name}.training-{key[:12]}"
    with step(f"loading {root.name}"):
        model = way.build(root, max_tokens=max_tokens, device=budget.device)
    before = _measure(model, measured)
    model = tuner.train(model, data, replace(budget, state=state))
    after = _measure(model, measured)
    gains = [_gain(task, before[task.name], after[task.name]) for task in measured]
    report = _report(root, tuner, gains, budget)
    figures = {"method": tuner.name, "settings": str(tuner), "kind": kind, "examples": len(data), "steps": budget.steps, "tasks": gains}
    with atomic_directory(out, overwrite=overwrite, sources=[root]) as temporary:
        model.save_pretrained(str(temporary), create_model_card=False)
        report.save_html(temporary / "training.html")
        stock = is_stock(temporary)
        made = provenance.record(
            given,
            "text train",
            method=tuner.name,
            parameters={"method": str(tuner), "encoder": str(way), "budget": asdict(replace(budget, curve=[], state=None))},
            seed=budget.seed,
            corpus={"sha256": digest(data), "examples": len(data)},
            timings={"all": round(time.perf_counter() - start, 3)},
            metrics={"tasks": gains},
        )
        provenance.save(made, temporary)
    shutil.rmtree(state, ignore_errors=True)
    opens = f"SentenceTransformer('{out}')" if stock else f"regraft.text.load('{out}')"
    return report, figures | {"out": str(out), "open": opens, "seconds": round(time.perf_counter() - start, 1)}


def _measure(model: Any, tasks: Sequence[Task]) -> Found:
    found = {}
    for task in tasks:
        with step(f"{task.name}: {task.documents:,} documents"):
            found[task.name] = task.measure(encoder(model))
    return found


def _gain(task: Task, before: Measured, after: Measured) -> dict[str, Any]:
    effect = paired_effect(before, after)
    figures = {"before": effect.baseline, "after": effect.method, "gain": effect.effect, "low": effect.low, "high": effect.high}
    return {"task": task.name, "metric": task.metric, "documents": task.documents} | figures


def _report(root: Path, tuner: Tuner, gains: list[dict[str, Any]], budget: Budget) -> Report:
    told = [f"{one['task']} {one['before']:.3f} -> {one['after']:.3f} ({one['low']:+.3f} to {one['high']:+.3f})" for one in gains]
    lead = (
        f"{root.name} after {budget.steps:,} steps of {tuner.name}: {'; '.join(told)}."
        if told
        else f"{root.name}, trained by {tuner.name}."
    )
    if worse := [one["task"] for one in gains if one["high"] < 0]:
        lead += f" Surely worse than before on {', '.join(worse)}: lower the learning rate (--lr) or take fewer steps."
    report = Report("Training an encoder", lead)
    if budget.curve:
        report.add_figure("Loss", training_curves({tuner.name: budget.curve}, x_title="steps", y_title="loss"))
    if gains:
        report.add_table("Before and after", gains, "low and high: 95 % interval of the gain over the same documents.", best={})
    return report


def check_budget(steps: int, batch_size: int, lr: float) -> None:
    """Raise `ParameterError` for a budget that trains nothing."""
    for name, value in (("steps", steps), ("batch-size", batch_size), ("lr", lr)):
        if not value > 0:
            raise ParameterError(f"--{name} {value}: must be above 0")
