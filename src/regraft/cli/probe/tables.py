"""`regraft probe tables`: which encoder's vectors respect what relational tables are."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.probe.group import group
from regraft.cli.probe.spectrum import Kept


@o.options
class Given:
    """Tables, and what they do not say by themselves."""

    tables: Annotated[Path, typer.Option("--tables", help="A folder of .csv or .tsv files, or one of them.")]
    joins: Annotated[Path | None, typer.Option(help="CSV of pairs: table_a,column_a,table_b,column_b[,quality]. Default: by overlap.")] = (
        None
    )
    types: Annotated[Path | None, typer.Option(help="CSV of semantic types, for purity: table,column,type.")] = None
    synonyms: Annotated[Path | None, typer.Option(help="CSV of other names of columns: column,synonym.")] = None
    max_rows: Annotated[int, typer.Option(min=1, help="Rows that are read of a table.")] = 10_000
    max_tokens: Annotated[int, typer.Option(min=8, help="Tokens of a table at once, at most what the model takes.")] = 512


@o.options
class Budget:
    """What is measured, and how much of it."""

    properties: Annotated[
        str,
        typer.Option(help="all, or some of row-order,column-order,join,fd,sample,entity,perturbation,context."),
        o.Yaml(listed=True),
    ] = "all"
    levels: Annotated[str, typer.Option(help="Vectors to compare when the order changes: column,row,cell,table."), o.Yaml(listed=True)] = (
        "column"
    )
    permutations: Annotated[int, typer.Option(min=1, help="Orders a table for row-order and column-order. The paper: 1000.")] = 50
    samples: Annotated[int, typer.Option(min=1, help="Samples of rows a table for each fraction. The paper: 1000.")] = 50
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Another setting, name=value (see `regraft methods`). Repeatable.")
    ] = None
    cache: Annotated[Path | None, typer.Option(help="Folder to keep vectors in. Default with --out: the user's cache.")] = None


@verb(group=group)
def tables(
    models: Annotated[
        list[str], typer.Argument(help="Checkpoints, or files of word vectors; NAME=MODEL gives one a name.", metavar="MODEL1 MODEL2 ...")
    ],
    *,
    given: Given,
    budget: Budget,
    kept: Kept,
    placement: o.Placement,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Measure encoders on your tables: do vectors mind the order of rows and columns, follow joins and dependencies, survive samples?"""
    from regraft.errors import ParameterError
    from regraft.method import parse_settings, resolve
    from regraft.probe.probes.observatory.job import Reading, observe
    from regraft.probe.probes.observatory.serialise import LEVELS

    levels = _listed(budget.levels)
    unknown = [level for level in levels if level not in LEVELS]
    if unknown or not levels:
        raise ParameterError(f"--levels {budget.levels}: choose some of {', '.join(LEVELS)}")
    settings = {**parse_settings(budget.settings or []), "levels": levels, "permutations": budget.permutations, "samples": budget.samples}
    if budget.properties != "all":
        settings["properties"] = _listed(budget.properties)
    reading = Reading(
        joins=given.joins, types=given.types, synonyms=given.synonyms, most_rows=given.max_rows, max_tokens=given.max_tokens,
        cache=budget.cache, device=placement.device, dtype=placement.dtype,
    )  # fmt: skip
    probe = resolve("probe", "observatory", settings | {"seed": placement.seed})
    report, figures = observe(models, given.tables.expanduser(), probe, reading, **vars(kept))
    if not json_output:
        report.print()
    return figures


def _listed(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
