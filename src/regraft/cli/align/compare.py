"""`regraft align compare`: every map beside least squares."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.align import options as a
from regraft.cli.align.group import group
from regraft.cli.app import verb
from regraft.cli.completion import methods_of


@verb(group=group)
def compare(
    source: a.Source,
    target: a.Target,
    *,
    dictionary: Annotated[Path, typer.Option("--dictionary", help="Pairs to learn from.")],
    test: Annotated[Path, typer.Option("--test", help="Pairs to measure by; their source words must be others.")],
    methods: Annotated[
        str,
        typer.Option("--methods", help="Names with commas between, or all.", autocompletion=methods_of("aligner", listed=True)),
        o.Yaml(about="names, or all", listed=True),
    ] = "all",
    settings: Annotated[list[str] | None, typer.Option("--set", help="A parameter, METHOD.field=value. Repeatable.")] = None,
    tables: a.Tables,
    csls: a.Neighbourhood = 10,
    seed: o.Seed = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Directory for the page, the figures and the rows.")] = None,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Fit every map on the same pairs and measure it on the same words, beside least squares."""
    from regraft.align.words.compare import compare as run
    from regraft.align.words.compare import settings_by_method

    done = run(
        source,
        target,
        dictionary=dictionary,
        test=test,
        methods=methods,
        settings=settings_by_method(settings or []),
        out=out,
        limit=tables.limit,
        latin=(tables.source_latin, tables.target_latin),
        k=csls,
        seed=seed,
    )
    if not json_output:
        done.report.print()
    return {"rows": done.rows}
