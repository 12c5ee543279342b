"""`regraft align diagnose`: whether a map without a dictionary can hold, before it is tried."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.align import options as a
from regraft.cli.align.group import group
from regraft.cli.app import verb


@verb(group=group)
def diagnose(
    source: a.Source,
    target: a.Target,
    *,
    tables: a.Tables,
    words: Annotated[int, typer.Option(min=2, help="Most frequent words of either side that are looked at.")] = 4_000,
    csls: a.Neighbourhood = 10,
    out: Annotated[Path | None, typer.Option("--out", help="Also write this HTML page.")] = None,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Compare the shapes of two tables: spectra, words written alike, and the start that an unsupervised map would take."""
    from regraft.align.words.diagnose import diagnose as run

    report, figures = run(source, target, limit=tables.limit, latin=(tables.source_latin, tables.target_latin), words=words, k=csls)
    if out is not None:
        report.save_html(out)
    if not json_output:
        report.print()
    return figures
