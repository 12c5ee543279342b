"""The whole way on one task: discovery, synthesis, objectives on what came of it, and a directory that holds all of it.

Enters: a task with environments. Leaves: `encoder.safetensors` (encoder, a head a round), `rounds.safetensors` (predictions and groups),
`rich-features.json`, `rich-features.html`, `regraft.json`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any, cast, get_args

import torch
from safetensors.torch import save_file

from regraft import provenance
from regraft.bias.prior import Plan
from regraft.bias.priors.environments import PooledTraining, judged
from regraft.bias.priors.rich_feature_construction import RichFeatureConstruction
from regraft.bias.rich.construction import RichFeatures, environments
from regraft.bias.rich.networks import Network
from regraft.bias.rich.objectives import USUAL_WEIGHT, Name
from regraft.bias.tasks.task import Task
from regraft.errors import ParameterError
from regraft.output import atomic_directory, check_output
from regraft.progress import step
from regraft.report import Report

FILES = ("encoder.safetensors", "rounds.safetensors", "rich-features.json", "rich-features.html")
Row = dict[str, Any]


def rich_features_on(
    task: Task,
    method: RichFeatureConstruction,
    objectives: Sequence[str],
    *,
    plan: Plan,
    weight: float | None = None,
    out: Path | None = None,
    overwrite: bool = False,
) -> tuple[Report, dict[str, Any]]:
    """Report and figures of `objectives` on constructed features, beside plain training of the same network.

    weight : of every penalty; None: the usual one of each. With `out`, also a directory. Raises `ParameterError`: a task without
    environments or with one alone, an unknown objective; `OutputError`.
    """
    if task.kind != "environments":
        raise ParameterError(f"{task.name} has no environments: choose a task that has, such as colored_mnist")
    environments(task.extra["environment"])
    if unknown := [name for name in objectives if name not in get_args(Name)]:
        raise ParameterError(f"--objective {unknown[0]}: choose {', '.join(get_args(Name))}")
    if not objectives:
        raise ParameterError("--objective: name at least one")
    if out is not None:
        check_output(out, overwrite=overwrite)
    start = perf_counter()
    rich = method.construct(task, plan)
    rounds, trained = told(rich, task), outcomes(rich, task, method, objectives, weight, plan)
    figures = {"rounds": rounds, "agreement": rich.agreement().tolist(), "stopped": rich.stopped, "trained": trained}
    report = report_of(task, rich, figures)
    if out is not None:
        with atomic_directory(out, overwrite=overwrite) as folder:
            write(folder, rich, figures, report)
            about = provenance.record(
                provenance.Given(Path(task.name), digest=f"sha256:{task.sha256}"),
                "bias rich-features",
                method=method.name,
                parameters=asdict(cast(Any, method)) | {"objectives": list(objectives), "steps": plan.steps, "weight": weight},
                seed=plan.seed,
                timings={"seconds": perf_counter() - start},
                metrics={row["trained"]: row["worst_accuracy"] for row in trained},
                notes=[rich.stopped] if rich.stopped else [],
            )
            provenance.save(about, folder, FILES)
        figures["out"] = str(out)
    return report, figures


def told(rich: RichFeatures, task: Task) -> list[Row]:
    """One row a round: accuracies in training, in its worst group, and in each environment of training and held out."""
    by = rich.accuracy_by(task.extra["environment"])
    rows = []
    for at, one in enumerate(rich.rounds):
        row: Row = {"round": at, "accuracy": one.accuracy, "worst_group": one.worst if at else None, "right": int(one.correct.sum())}
        row |= {"wrong": int((~one.correct).sum())} | {f"trained_{name}": found[at] for name, found in by.items()}
        held = judged(one.network, task, []).facts
        rows.append(row | {f"held_out_{name.removeprefix('accuracy_')}": value for name, value in held.items()})
    return rows


def outcomes(
    rich: RichFeatures, task: Task, method: RichFeatureConstruction, objectives: Sequence[str], weight: float | None, plan: Plan
) -> list[Row]:
    """One row for plain training, the averaged head as it is, and each objective."""

    def row(name: str, network: Network) -> Row:
        found = judged(network, task, [])
        return {"trained": name, "worst_accuracy": float(found.scores.mean()), **found.facts}

    with step("plain training"):
        plain = PooledTraining(hidden=method.hidden, rate=method.rate, l2=method.l2).learn(task, plan)
    rows = [row("plain training", cast(Network, plain.model)), row("averaged head", Network(rich.encoder, [rich.head]))]
    for name in objectives:
        asked = replace(cast(Any, method), objective=name, weight=USUAL_WEIGHT.get(name, 0.0) if weight is None else weight)
        with step(f"{name} on rich features"):
            network, _ = asked.finish(rich, task, plan)
        rows.append(row(f"{name}, {'head alone' if method.frozen else 'all weights'}", network))
    return rows


def report_of(task: Task, rich: RichFeatures, figures: dict[str, Any]) -> Report:
    """The answer in a sentence, what was trained, what each round found."""
    plain, _, asked, *_ = figures["trained"]
    lead = (
        f"In the worst held-out environment of {task.name}, plain training reaches {plain['worst_accuracy']:.3f}; {asked['trained']}, on "
        f"features of {len(rich.rounds)} round(s), {asked['worst_accuracy']:.3f}. Nothing was selected on held-out examples."
    )
    report = Report(f"Rich features on {task.name}", f"{lead} Discovery ended early: {rich.stopped}." if rich.stopped else lead)
    caption = "accuracy_0, 1, ...: in each held-out environment; worst_accuracy: the lowest of them."
    report.add_table("What was trained", figures["trained"], caption, best={"worst_accuracy": "high"})
    caption = "Of training examples: accuracy, accuracy in the worst group (right or wrong in an earlier round), in each environment."
    report.add_table("What each round found", figures["rounds"], caption)
    agreement = [{"round": at} | {f"with_{to}": value for to, value in enumerate(row)} for at, row in enumerate(figures["agreement"])]
    report.add_table("How often rounds agree", agreement, "Share of training examples that two rounds predict alike.")
    return report


def write(folder: Path, rich: RichFeatures, figures: dict[str, Any], report: Report) -> None:
    tensors = {f"encoder.{name}": value for name, value in rich.encoder.state_dict().items()}
    tensors |= {f"heads.{at}.{name}": value for at, head in enumerate(rich.heads) for name, value in head.state_dict().items()}
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / FILES[0])
    found = {f"predictions.{at}": one.predictions for at, one in enumerate(rich.rounds)}
    found |= {f"correct.{at}": one.correct.to(torch.uint8) for at, one in enumerate(rich.rounds)}
    save_file(found, folder / FILES[1])
    (folder / FILES[2]).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    report.save_html(folder / FILES[3])
