"""`regraft text mine`: training pairs with hard negatives."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.text.group import group


@verb(group=group)
def mine(
    *,
    corpus: Annotated[Path, typer.Option(help="Documents: objects with _id and text, one a line.")],
    queries: Annotated[Path, typer.Option(help="Queries: objects with _id and text; without --positives also positive, ids of documents.")],
    positives: Annotated[Path | None, typer.Option(help="Table of query-id, corpus-id, score.")] = None,
    teacher: Annotated[str, typer.Option(help="The encoder that ranks: a directory or Hub id.")],
    pooling: Annotated[str, typer.Option("--pooling", help="The teacher's way of encoding.")] = "as-is",
    margin: Annotated[float, typer.Option(help="A negative scores below this share of the positive's score.")] = 0.95,
    negatives: Annotated[int, typer.Option(help="Negatives a query.")] = 7,
    out: Annotated[Path, typer.Option("--out", help="The .jsonl to write; .report.json beside it says what was mined.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Texts at once.")] = 32,
    device: o.Device = "cpu",
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Find documents near a query that do not answer it, and say how many of them may answer it all the same."""
    from regraft.text.mine import mine_files

    figures = mine_files(
        corpus,
        queries,
        teacher=teacher,
        out=out,
        positives=positives,
        encode_by=pooling,
        margin=margin,
        negatives=negatives,
        batch_size=batch_size,
        device=device,
    )
    if not json_output:
        print(f"{figures['rows']:,} pairs of {figures['queries']:,} queries with {negatives} negatives each: {out}")
        if figures["left_out"]:
            print(f"{figures['left_out']:,} queries have fewer negatives below {margin:g} of their positive: left out")
        wrong = figures["false_negatives"]
        if wrong is None:
            print("false negatives: no query has two positives, so there is no estimate")
        else:
            share, low, high = (f"{100 * wrong[name]:.1f} %" for name in ("share", "low", "high"))
            print(f"false negatives, if only one answer a query were known: {share} ({low} to {high}, {wrong['queries']:,} queries)")
    return figures
