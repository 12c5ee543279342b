"""The job behind `regraft probe bias`.

Enters: a task, hypothesis spaces, models or numbers whose error is to be reached. Leaves: a report, its figures, and a directory where one
is asked for, in which trained networks and measured models are kept: asked again, it goes on where it stopped.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regraft import provenance
from regraft.comparison import Arm, Kept, Outcome, ranked, run, tables_of
from regraft.errors import OutputError, ParameterError
from regraft.evaluation.paired import Sample
from regraft.output import atomic_file, check_output
from regraft.probe.probes.inductive_bias.job.models import REFERENCE, ModelBench
from regraft.probe.probes.inductive_bias.job.pictures import by_epsilon, by_rows, law
from regraft.probe.probes.inductive_bias.job.reading import Source, read_task
from regraft.probe.probes.inductive_bias.method import InductiveBias, check_epsilon
from regraft.probe.probes.inductive_bias.networks import Training
from regraft.probe.probes.inductive_bias.result import Bias
from regraft.probe.probes.inductive_bias.spaces import GaussianSpace, Space
from regraft.probe.probes.inductive_bias.specs import NETWORKS, parse_model, parse_space
from regraft.probe.probes.inductive_bias.task import Task
from regraft.progress import step
from regraft.report import Report, plain

PAGE, FIGURES, NETWORKS_KEPT, ROWS_KEPT = "report.html", "figures.json", "networks.jsonl", "rows.jsonl"
OURS = {PAGE, FIGURES, NETWORKS_KEPT, ROWS_KEPT, provenance.FILE}
MODELS = ("ridge", "knn:5", "forest", "mlp:64")
NOTHING = 1e-15  # bits and errors below are shown as 0
CURVE_POINTS, SHARES = 40, (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """A test error to reach: a model's, with its errors by test point (t,), or a number."""

    name: str
    epsilon: float
    by_point: Floats | None = None


def describe(
    source: Source,
    method: InductiveBias,
    *,
    spaces: Sequence[str] = (),
    models: Sequence[str] = (),
    epsilons: Sequence[float] = (),
    out: Path | None = None,
    overwrite: bool = False,
) -> tuple[Report, dict[str, Any]]:
    """Bias of each level in each space. Without models and epsilons: four models. Raises an `InputError` in one line."""
    start = time.perf_counter()
    settings = [replace(method, space=str(parse_space(one))) for one in dict.fromkeys(spaces or [method.space])]
    specs = [parse_model(one) for one in dict.fromkeys(models or (() if epsilons else MODELS))]
    numbers = [check_epsilon(one) for one in dict.fromkeys(epsilons)]
    if out is not None:
        check_directory(out, overwrite=overwrite)
    with step(f"reading {source.task.name}"):
        task = read_task(source, method.seed)
    networks = Kept(out, NETWORKS_KEPT)
    training = Training(method.epochs, method.lr, method.batch)
    outcomes, levels = _levels(specs, task, training, method.seed, networks, Kept(out, ROWS_KEPT))
    levels += [Level(f"{one:g}", one) for one in numbers]
    if not levels:
        raise ParameterError(f"{task.name}: no model could be measured: {_first_error(outcomes)}")
    opened = [one.open(task, networks if parse_space(one.space).kind in NETWORKS else None) for one in settings]
    with step("measuring"):
        found = {level.name: [space.measure(level.epsilon, level.by_point) for space in opened] for level in levels}
        curves = {_name(space): _curve(space, levels) for space in opened}
        rows = _by_rows(settings, task, levels)
    report = _report(task, levels, found, outcomes, opened, curves, rows)
    figures = dict(
        plain(
            {
                "task": task.name,
                "classes": task.classes,
                "bias": [one.to_dict() | {"reached_by": name} for name, some in found.items() for one in some],
                "models": [one.row for one in outcomes.values()],
                "by_epsilon": curves,
                "by_training_rows": rows,
                "notes": task.notes,
            }
        )
    )
    if out is not None:
        _write(out, source, method, report, figures, time.perf_counter() - start)
    return report, figures


def check_directory(out: Path, *, overwrite: bool) -> None:
    """Raise `OutputError` where `out` holds anything but an earlier run's files, which are gone on with. `overwrite` begins anew."""
    held = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if not held <= OURS:
        raise OutputError(f"{out}: holds other files, such as {min(held - OURS)}: choose another output directory")
    if overwrite:
        for name in held:
            (out / name).unlink()
    elif not held:
        check_output(out)


def _levels(
    specs: Sequence[Any], task: Task, training: Training, seed: int, networks: Kept, kept: Kept
) -> tuple[dict[str, Outcome], list[Level]]:
    if not specs:
        return {}, []
    bench = ModelBench(task, training, seed, networks)
    outcomes = run(bench, [Arm(str(spec), spec) for spec in specs], 0, kept)
    levels = []
    for name, one in outcomes.items():
        if name != REFERENCE and isinstance(one.sample, Sample) and one.sample.value > 0:
            levels.append(Level(name, one.sample.value, one.sample.amounts.mean(0)))
        elif name != REFERENCE and one.error is None:
            one.row["error"] = "makes no error at all: no bias is finite"
    return outcomes, levels


def _first_error(outcomes: Mapping[str, Outcome]) -> str:
    return next((str(one.error) for one in outcomes.values() if one.error), "give --epsilon")


def _name(space: Space) -> str:
    return space.label if space.kernel is None or space.kernel.sigma is None else f"{space.label}, sigma {space.kernel.sigma:.3g}"


def _curve(space: Space, levels: Sequence[Level]) -> list[tuple[float, float]]:
    """(epsilon, bits) from below the least level to the mean error; by the saddle point where the tail is exact."""
    low, high = min(level.epsilon for level in levels) / 4, max(space.mean_error, max(level.epsilon for level in levels))
    exact = isinstance(space, GaussianSpace) and space.tail in ("exact", "saddlepoint")
    return [
        (epsilon, (space.posterior.law.nats(epsilon, "saddlepoint") if exact else space.nats(epsilon)) / math.log(2))  # type: ignore[attr-defined]
        for epsilon in np.geomspace(low, high, CURVE_POINTS).tolist()
    ]


def _by_rows(settings: Sequence[InductiveBias], task: Task, levels: Sequence[Level]) -> dict[str, Any]:
    """Bits by training rows in the first space of a kernel: the errors to reach stay those of all rows."""
    first = next((one for one in settings if parse_space(one.space).kind not in NETWORKS), None)
    counts = sorted({max(2, round(share * task.n)) for share in SHARES})
    if first is None or task.n > 4000:
        return {}
    first = replace(first, tail="saddlepoint", draws=0)
    found: dict[str, Any] = {level.name: [] for level in levels}
    space: Space | None = None
    for n in counts:
        try:
            space = first.open(task.first(n))
        except ParameterError:
            continue  # few rows that are all equal have no median distance
        for level in levels:
            found[level.name].append((n, space.nats(level.epsilon) / math.log(2)))
    return {"space": first.space, "curves": found}


def _report(
    task: Task,
    levels: Sequence[Level],
    found: Mapping[str, Sequence[Bias]],
    outcomes: Mapping[str, Outcome],
    opened: Sequence[Space],
    curves: Mapping[str, Any],
    rows: Mapping[str, Any],
) -> Report:
    least = min(levels, key=lambda level: level.epsilon)
    report = Report(f"Inductive bias of {task.name}", _lead(least, found[least.name][0], opened[0].comments(least.epsilon)))
    table = [
        {
            "reached by": name,
            "epsilon": _short(one.epsilon),
            "space": label,
            "bits": _short(one.bits),
            "95 %": _range(one.bits_interval),
            "nats": _short(one.nats),
            "where": "in range" if one.in_range else "extrapolated",
            "tail": one.tail,
        }
        for name, some in found.items()
        for one, label in zip(some, map(_name, opened), strict=True)
    ]
    report.add_table("Bias", table, "Lower: less prior knowledge. Compare only within one space, one task and its split.")
    spaces = [
        {
            "space": _name(space),
            "sigma": _short(one.sigma),
            "jitter": _short(one.jitter),
            "n": one.n,
            "t": one.t,
            "k": one.k,
            "E[e]": _short(one.mean_error),
            "least drawn": _short(one.least_error),
            "of the mean predictor": _short(one.predictor_error),
            "drawn": one.samples,
        }
        for space, one in zip(opened, next(iter(found.values())), strict=True)
    ]
    about = "n training rows, t test rows, k outputs; E[e] is the error of a predictor drawn from all that fit the training rows."
    report.add_table("Hypothesis spaces", spaces, about)
    if outcomes:
        bench_rows = ranked([one.row for one in outcomes.values()], outcomes, ModelBench.metric)
        caption = "Mean squared error on the test rows; behind_first with half its 95 % interval over them. In one space the order of "
        for one in tables_of(bench_rows, outcomes, ModelBench.metric, caption + "errors is the order of biases."):
            report.add_table(**one)
    notes = list(dict.fromkeys(note for some in found.values() for one in some for note in one.notes))
    if notes:
        report.add_table("Notes", [{"note": note} for note in notes])
    marks = {level.name: level.epsilon for level in levels}
    report.add_figure(
        "Bias by the error to reach", by_epsilon(curves, marks), "Where a line ends at the left, nothing in the space goes further."
    )
    if rows:
        report.add_figure("Bias by training rows", by_rows(rows["curves"], rows["space"]), "The errors to reach stay those with all rows.")
    report.add_figure(
        "Where these errors lie",
        law({_name(space): space.errors for space in opened}, marks),
        "Predictors drawn from all that fit the training rows; a mark left of them is out of their range.",
    )
    return report


def _lead(least: Level, one: Bias, doubts: Sequence[str]) -> str:
    """Of the least error to reach, in the first space; `doubts` are what must be known of that figure."""
    who = f"{least.name} reaches" if least.by_point is not None else "To reach"
    space = one.space if one.sigma is None else f"{one.space} (sigma {one.sigma:.3g})"
    if not np.isfinite(one.nats):
        return f"{who} a test error of {least.epsilon:.4g}: no predictor of {space} that fits the {one.n:,} training rows does."
    between = "" if one.bits_interval is None else f" ({_range(one.bits_interval)})"
    return (
        f"{who} a test error of {least.epsilon:.4g}: {_short(one.bits)} bits{between} of bias in {space}, after {one.n:,} training rows."
        + (f" One in 2^{_short(one.bits)} of its predictors that fit them does as well." if one.bits >= 1 else "")
        + (f" But {doubts[0]}." if doubts else "")
    )


def _range(ends: tuple[float, float] | None) -> str:
    return "–" if ends is None else f"{_short(ends[0])} to {_short(ends[1])}"


def _short(value: float | None) -> str:
    if value is None or value != value:
        return "–"
    if math.isinf(value):
        return "∞"
    if abs(value) < NOTHING:
        return "0"
    return f"{value:.1e}" if value and abs(value) < 1e-3 else f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _write(out: Path, source: Source, method: InductiveBias, report: Report, figures: dict[str, Any], seconds: float) -> None:
    """The page, the figures and `regraft.json`, each whole; what is kept of networks and models stays beside them."""
    out.mkdir(parents=True, exist_ok=True)
    asked = dict(plain({**vars(method), **vars(source)}))
    made = provenance.record(
        provenance.Given(source.task.resolve()),
        "probe",
        method=method.name,
        parameters=asked,
        seed=method.seed,
        metrics={"bias": figures["bias"]},
        timings={"seconds": seconds},
    )
    try:
        report.save_html(out / PAGE)
        with atomic_file(out / FIGURES) as partial:
            partial.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        provenance.save(made, out, [PAGE, FIGURES])
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error.strerror}): choose another output directory") from None
