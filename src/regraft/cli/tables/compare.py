"""`regraft tables compare`: smaller tables beside plain ones under a click model."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.options import Yaml
from regraft.cli.tables.group import group


@o.options
class Columns:
    """What the columns of the data mean."""

    panel: ClassVar[str] = "Data"

    label: Annotated[str | None, typer.Option("--label", help="Column of clicks; known kinds of files have their own.")] = None
    positive: Annotated[float | None, typer.Option("--positive", help="Labels from this on are clicks, as 4 of ratings.")] = None
    numeric: Annotated[
        str | None,
        typer.Option("--numeric", help="Columns of quantities, with commas; else numbers with over 100 values, names in id apart."),
    ] = None
    categorical: Annotated[str | None, typer.Option("--categorical", help="Columns of ids, with commas.")] = None
    drop: Annotated[str | None, typer.Option("--drop", help="Columns to leave out, with commas.")] = None
    least: Annotated[int, typer.Option("--least", min=1, help="How often a value must occur in training to have a row of its own.")] = 1
    time: Annotated[str | None, typer.Option("--time", help="Column to split by, the oldest to train; else by chance. 8:1:1.")] = None
    test: Annotated[Path | None, typer.Option("--test", help="A file of test rows of the same kind.")] = None
    format: Annotated[
        str, typer.Option("--format", help="auto, csv, tsv, parquet, criteo, avazu, libfm, movielens, recbole.")
    ] = "auto"  # fmt: skip


@o.options
class Training:
    """The click model and how it is trained."""

    panel: ClassVar[str] = "Training"

    model: Annotated[str, typer.Option("--model", help="dlrm, wdl, dcn or deepfm."), Yaml(choices=("dlrm", "wdl", "dcn", "deepfm"))] = (
        "dlrm"
    )
    layers: Annotated[
        str | None, typer.Option("--layers", help="Widths of its (top) layers, with commas; the paper's by default."), Yaml(as_text=True)
    ] = None
    dim: Annotated[int, typer.Option("--dim", min=1, help="Width of a row.")] = 16
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of each training, all stages together.")] = 1000
    batch: Annotated[int, typer.Option("--batch", min=1, help="Rows a step.")] = 1024
    rate: Annotated[float, typer.Option("--rate", help="Learning rate of Adam.")] = 1e-3
    patience: Annotated[
        int, typer.Option("--patience", min=0, help="Evaluations, 20 in all, without a better AUC before training ends; 0 never.")
    ] = 5
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of each.")] = 3


@verb(group=group)
def compare(
    data: Annotated[
        Path,
        typer.Argument(help="Rows of clicks: CSV, TSV, Parquet, Criteo, Avazu, libFM, MovieLens or RecBole.", metavar="DATA"),
        Yaml(about="rows of clicks"),
    ],
    *,
    columns: Columns,
    budgets: Annotated[
        str, typer.Option("--budgets", help="Shares of the plain tables' memory (0.1, 10%) or sizes (12MB), with commas.")
    ] = "0.5,0.1,0.02",
    methods: Annotated[str, typer.Option(help="Names separated by commas, or all.")] = "all",
    settings: Annotated[list[str] | None, typer.Option("--set", help="A parameter of a method, method.field=value. Repeatable.")] = None,
    training: Training,
    seed: o.Seed = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory for the page, the JSON and finished rows; the same call resumes.")
    ] = None,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Train a click model with plain tables and with smaller ones, and say which to take at which budget."""
    from regraft.errors import ParameterError
    from regraft.method import parse_settings
    from regraft.tables.ctr import compare as job
    from regraft.tables.ctr.training import Schedule
    from regraft.tables.data.clicks import Meaning

    by_method: dict[str, dict[str, Any]] = {}
    for key, value in parse_settings(settings or []).items():
        name, dot, field = key.partition(".")
        if not dot:
            raise ParameterError(f"--set {key}={value}: write it as method.field=value")
        by_method.setdefault(name, {})[field] = value
    meaning = Meaning(
        label=columns.label,
        positive=columns.positive,
        numeric=_names(columns.numeric),
        categorical=_names(columns.categorical),
        drop=_names(columns.drop),
        least=columns.least,
        time=columns.time,
        seed=seed,
    )
    widths: dict[str, Any] = {}
    if training.layers is not None:
        if not all(one.isdigit() and int(one) for one in _names(training.layers)):
            raise ParameterError(f"--layers {training.layers}: give widths with commas between, as 256,256")
        widths = {"top" if training.model == "dlrm" else "hidden": tuple(int(one) for one in _names(training.layers))}
    schedule = Schedule(steps=training.steps, batch=training.batch, rate=training.rate, patience=training.patience, seed=seed)
    done = job.compare(
        data,
        meaning,
        kind=columns.format,
        test=columns.test,
        budgets=_names(budgets),
        methods=_names(methods),
        settings=by_method,
        setup=job.Setup(model=training.model, widths=widths, dim=training.dim, seeds=training.seeds, schedule=schedule),
        out=out,
    )
    if not json_output:
        done.report.print()
        if out is not None:
            print(f"\nreport: {out / 'comparison.html'}")
    return {"rows": done.rows, "recommended": done.recommended}


def _names(written: str | None) -> tuple[str, ...]:
    return tuple(one.strip() for one in (written or "").split(",") if one.strip())
