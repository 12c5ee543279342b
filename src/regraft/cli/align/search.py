"""`regraft align search`: the nearest words across a map."""

from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.align import options as a
from regraft.cli.align.group import group
from regraft.cli.app import verb


@verb(group=group)
def search(
    map_: a.Map,
    *,
    query: Annotated[str, typer.Option("--query", help="A word, or a file of words, one a line.")],
    top: Annotated[int, typer.Option(min=1, help="Neighbours of each word.")] = 5,
    retrieval: Annotated[str, typer.Option(help="csls, or nn for cosines.")] = "csls",
    back: Annotated[bool, typer.Option("--back", help="Look for words of Y in X.")] = False,
    csls: a.Neighbourhood = 10,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Words of Y that the map puts next to words of X."""
    from regraft.align.words.search import read_words, retrieval_of
    from regraft.align.words.search import search as run
    from regraft.report import Report

    rows = run(map_, read_words(query), top=top, way=retrieval_of(retrieval), back=back, k=csls)
    if not json_output:
        report = Report("Nearest words")
        report.add_table("", rows)
        report.print()
    return {"rows": rows}
