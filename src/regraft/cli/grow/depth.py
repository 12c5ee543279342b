"""`regraft grow depth`: a model with more or fewer layers."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.completion import methods_of
from regraft.cli.grow.group import group
from regraft.cli.grow.options import Corpus, Layers, Learning, Reading, budgets, context_of


@o.options
class Way:
    """How new layers are made."""

    panel: ClassVar[str] = "How new layers are made"

    method: Annotated[str, typer.Option(help="One of `regraft methods`.", autocompletion=methods_of("depth-grower"))] = "copy"
    settings: Annotated[list[str] | None, typer.Option("--set", help="A hyper-parameter, field=value. Repeatable.")] = None
    gene: Annotated[
        Path | None, typer.Option("--gene", help="Keep what the method learns here; where it is already there, grow from it.")
    ] = None


@o.options
class Budget(Learning):
    """How long is trained, and what."""

    new_only: Annotated[bool, typer.Option("--new-only", help="Train just the new layers.")] = False


@verb(group=group)
def depth(
    model: o.Model,
    *,
    layers: Layers,
    out: Annotated[Path, typer.Option("--out", help="Directory to write; appears whole or not at all.")],
    way: Way,
    corpus: Corpus = None,
    learning: Budget,
    reading: Reading,
    placement: o.Placement,
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Write MODEL with another number of layers, each a mix of layers that were learned."""
    from regraft.grow.job import Job, grow
    from regraft.method import resolve
    from regraft.method.settings_text import parse_settings

    grower = resolve("depth-grower", way.method, parse_settings(way.settings or []))
    steps, training = budgets(learning, grower.learns)
    job = Job.prepare(
        model,
        corpus,
        context_of(placement, steps, way.gene),
        held_out=reading.held_out,
        text_column=reading.text_column,
        score_bytes=o.parse_score_bytes(reading.score_bytes),
    )
    done = grow(job, grower, layers, out=out, training=training, new_only=learning.new_only, overwrite=overwrite)
    if not json_output:
        done.report.print()
        print(f"\ncheckpoint: {out}\nreport:     {out / 'report.html'}")
    return done.figures
