"""`regraft graph facts`: models of facts trained, compared and asked."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.graph.group import facts as group

Dataset = Annotated[
    str, typer.Option("--dataset", help="umls, kinships, nations, codex-s, wn18rr, a folder with train, valid, test .txt, or one file.")
]


@o.options
class Training:
    """How models are trained."""

    panel: ClassVar[str] = "Training"

    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the facts; the one that ranks validation best is kept.")] = 40
    batch: Annotated[int, typer.Option("--batch", min=1, help="Facts a step.")] = 256
    rate: Annotated[float, typer.Option("--rate", min=0, help="Learning rate of Adam.")] = 0.01
    decay: Annotated[float, typer.Option("--decay", min=0, max=1, help="What the rate is multiplied by each epoch.")] = 0.97


@verb(group=group)
def train(
    *,
    dataset: Dataset,
    out: Annotated[Path, typer.Option("--out", help="Directory for the model, its names and the page.")],
    model: Annotated[str, typer.Option("--model", help="See `regraft methods --family fact-model`.")] = "nfe",
    settings: Annotated[list[str] | None, typer.Option("--set", help="A parameter of the model, field=value. Repeatable.")] = None,
    choose: Annotated[
        list[str] | None, typer.Option("--choose", help="Values of a parameter to choose from by validation, field=a,b. Repeatable.")
    ] = None,
    training: Training,
    seed: o.Seed = 0,
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Train a model of the facts of a graph and rank the held-out ones."""
    from regraft.graph.facts.job import train as run
    from regraft.graph.facts.learning import Schedule
    from regraft.method.settings_text import parse_settings

    report, figures = run(
        dataset,
        out=out,
        model=model,
        settings=parse_settings(settings or []),
        choices=_choices(choose or []),
        schedule=Schedule(**vars(training)),
        seed=seed,
        overwrite=overwrite,
    )
    if not json_output:
        report.print()
        print(f"\nmodel: {out}")
    return figures


@verb(group=group)
def compare(
    *,
    dataset: Dataset,
    models: Annotated[str, typer.Option("--models", help="Names separated by commas, or all; nfe:variant=1 sets a field.")] = "all",
    settings: Annotated[list[str] | None, typer.Option("--set", help="A parameter of a model, model.field=value. Repeatable.")] = None,
    training: Training,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many times each is trained.")] = 3,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory for the page, the JSON and finished rows; the same call resumes.")
    ] = None,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Train models on the same facts and rank the same held-out ones, beside translations."""
    from regraft.errors import ParameterError
    from regraft.graph.facts.compare import compare as run
    from regraft.graph.facts.learning import Schedule
    from regraft.method.settings_text import parse_settings

    by_model: dict[str, dict[str, Any]] = {}
    for key, value in parse_settings(settings or []).items():
        name, dot, field = key.partition(".")
        if not dot:
            raise ParameterError(f"--set {key}={value}: write it as model.field=value")
        by_model.setdefault(name, {})[field] = value
    names = [name.strip() for name in models.split(",") if name.strip()]
    done = run(dataset, models=names, settings=by_model, schedule=Schedule(**vars(training)), seeds=seeds, out=out)
    if not json_output:
        done.report.print()
        if out is not None:
            print(f"\nreport: {out / 'comparison.html'}")
    return {"rows": done.rows}


@verb(group=group)
def ask(
    model: Annotated[Path, typer.Argument(help="A directory of `regraft graph facts train`.", metavar="DIR")],
    *,
    relation: Annotated[str, typer.Option("--relation", help="The relation.")],
    head: Annotated[str | None, typer.Option("--head", help="The head, to ask for tails.")] = None,
    tail: Annotated[str | None, typer.Option("--tail", help="The tail, to ask for heads.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many answers.")] = 10,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Rank what may stand at the other end of a relation, with the spread of each answer."""
    from regraft.graph.facts.job import load
    from regraft.report import Report

    answers = load(model).answers(relation, head=head, tail=tail, count=count)
    if not json_output:
        report = Report(f"{head or '?'} {relation} {tail or '?'}")
        report.add_table("Answers", answers, "spread: of the answer's distribution; known: the part of the data that has the fact.")
        report.print()
    return {"answers": answers}


def _choices(given: list[str]) -> dict[str, list[Any]]:
    from regraft.errors import ParameterError
    from regraft.method.settings_text import parse_settings

    found: dict[str, list[Any]] = {}
    for one in given:
        field, equals, values = one.partition("=")
        if not equals or not all(value.strip() for value in values.split(",")):
            raise ParameterError(f"--choose {one}: write it as field=value,value")
        found[field.strip()] = [next(iter(parse_settings([f"{field}={value}"]).values())) for value in values.split(",")]
    return found
