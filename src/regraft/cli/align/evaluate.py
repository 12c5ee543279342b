"""`regraft align evaluate`: how many translations a map finds."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.align import options as a
from regraft.cli.align.group import group
from regraft.cli.app import verb


@verb(group=group)
def evaluate(
    map_: a.Map,
    *,
    dictionary: Annotated[Path, typer.Option("--dictionary", help="Test pairs: source word, target word a line.")],
    back_dictionary: Annotated[
        Path | None, typer.Option("--back", help="Pairs for the way back: target word, source word; without, the same turned round.")
    ] = None,
    csls: a.Neighbourhood = 10,
    out: Annotated[Path | None, typer.Option("--out", help="Also write this HTML page.")] = None,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """P@1/5/10 of translations, both directions, by cosine and by CSLS, with coverage and an interval over source words."""
    from regraft.align.words.evaluate import evaluate as run

    report, figures = run(map_, dictionary, k=csls, back_dictionary=back_dictionary)
    if out is not None:
        report.save_html(out)
    if not json_output:
        report.print()
    return figures
