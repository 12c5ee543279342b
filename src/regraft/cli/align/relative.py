"""`regraft align relative`: do two spaces agree, once both are described by the same anchors?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli.align.group import group
from regraft.cli.app import verb
from regraft.cli.options import Json, Overwrite, Seed, options


@options
class Anchors:
    """Which anchors, and how rows are described by them."""

    anchors: Annotated[str, typer.Option(help="How many to draw, or a file: one id or word a line, or anchors.json of an earlier run.")] = (
        "300"
    )
    sampler: Annotated[str, typer.Option(help="uniform, stratified, farthest, k-means or frequent.")] = "uniform"
    labels: Annotated[Path | None, typer.Option(help="A class a line, for --sampler stratified.")] = None
    similarity: Annotated[str, typer.Option(help="cosine, inner, euclidean, l1, linf, angular or basis.")] = "cosine"
    steps: Annotated[str, typer.Option(help="Before the similarities: none, center or whiten, by the anchors.")] = "center"


@options
class Measuring:
    """What is measured, and on how much."""

    k: Annotated[int, typer.Option("--k", min=1, help="Neighbors that are compared.")] = 10
    samples: Annotated[int, typer.Option(min=4, help="Most pairs to measure on; anchors are never among them.")] = 2000


@verb(group=group)
def relative(
    left: Annotated[Path, typer.Argument(help="Rows as .npy, or word vectors (.vec, .txt, .bin, .npy with words).", metavar="A")],
    right: Annotated[Path, typer.Argument(help="The same things in the other space: as many rows, or words.", metavar="B")],
    *,
    anchors: Anchors,
    measuring: Measuring,
    out: Annotated[Path | None, typer.Option(help="Directory for anchors, map, figures and report; appears whole.")] = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    json_output: Json = False,
) -> dict[str, Any]:
    """Agreement of two spaces as they are, relative to shared anchors, and mapped: neighbors, retrieval, cosine, CKA, with intervals."""
    from regraft.align.relative import Asked
    from regraft.align.relative import relative as run

    report, figures = run(left, right, Asked(seed=seed, **vars(anchors), **vars(measuring)), out, overwrite=overwrite)
    if not json_output:
        report.print()
        if out is not None:
            print(f"\n{out}: anchors.json, map.safetensors, agreement.json, report.html")
    return figures
