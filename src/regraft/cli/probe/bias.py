"""`regraft probe bias`: how much prior knowledge a task asks for, and how much a model brings."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.probe.group import group
from regraft.cli.probe.spectrum import Kept


@o.options
class Given:
    """The task's file and how it is read."""

    task: Annotated[Path, typer.Option("--task", help="A table (.csv, .tsv, .parquet), .npz with X and y, or .npy rows with --labels.")]
    labels: Annotated[Path | None, typer.Option("--labels", help="Targets of a .npy of rows: a .npy, or a line each.")] = None
    target: Annotated[str | None, typer.Option("--target", help="The column to predict; the last one by default.")] = None
    text: Annotated[str | None, typer.Option("--text", help="A column of text, read by --encoder.")] = None
    encoder: Annotated[str | None, typer.Option("--encoder", help="A checkpoint that makes rows of --text: the mean over tokens.")] = None
    kind: Annotated[str, typer.Option(help="classes, numbers, or auto: words and few whole numbers are classes.")] = "auto"
    scale: Annotated[str, typer.Option(help="standard, none, or auto: standard for columns of a table.")] = "auto"
    test: Annotated[float, typer.Option(min=0, help="Share of rows to measure on, or from 1 on their number.")] = 0.25
    limit: Annotated[int | None, typer.Option(min=3, help="At most so many rows, drawn by --seed.")] = None


@o.options
class Asked:
    """Spaces, errors to reach, and how they are measured."""

    space: Annotated[
        list[str] | None,
        typer.Option(
            "--space",
            help="Where predictors come from: rbf, laplace, matern32, matern52, linear, nngp:DEPTH, cnngp:DEPTH, mlp:WIDTH,.., "
            "cnn:WIDTH,.. Repeatable; rbf by default.",
        ),
    ] = None
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help="A model whose error is to be reached: mlp:64,64, cnn:16, ridge, logistic, knn:5, tree, forest. Repeatable; by default "
            "ridge, knn:5, forest and mlp:64.",
        ),
    ] = None
    epsilon: Annotated[list[float] | None, typer.Option("--epsilon", help="A mean squared error to reach. Repeatable.")] = None
    sigma: Annotated[str, typer.Option(help="Of rbf, laplace and matern: a number, or median of training distances.")] = "median"
    tail: Annotated[str, typer.Option(help="exact, saddlepoint, paper (a fit to drawn errors) or released (as the authors' code).")] = (
        "exact"
    )
    samples: Annotated[int | None, typer.Option(min=3, help="Predictors drawn; 2,000, of the paper's tail 10,000, networks 100.")] = None
    epochs: Annotated[int, typer.Option(min=1, help="Of networks.")] = 100
    draws: Annotated[int, typer.Option(min=0, help="Draws for intervals; 0 for none.")] = 200


@verb(group=group)
def bias(
    *,
    given: Given,
    asked: Asked,
    kept: Kept,
    seed: o.Seed = 0,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Measure in bits how unlikely a test error is among all predictors that fit the training rows: the prior knowledge that it takes."""
    from regraft.method import configure
    from regraft.probe.probes.inductive_bias import InductiveBias
    from regraft.probe.probes.inductive_bias.job.describe import describe
    from regraft.probe.probes.inductive_bias.job.reading import Source

    settings: dict[str, Any] = {"sigma": parse_sigma(asked.sigma), "seed": seed}
    settings |= {name: getattr(asked, name) for name in ("tail", "samples", "epochs", "draws")}
    report, figures = describe(
        Source(**vars(given)),
        configure(InductiveBias, settings),
        spaces=asked.space or [],
        models=asked.model or [],
        epsilons=asked.epsilon or [],
        **vars(kept),
    )
    if not json_output:
        report.print()
    return figures


def parse_sigma(text: str) -> Any:
    """`"median"` or a number. Raises `ParameterError` for others."""
    from regraft.errors import ParameterError

    if text == "median":
        return text
    try:
        return float(text)
    except ValueError:
        raise ParameterError(f"--sigma {text}: write a number above 0, or median") from None
