"""`regraft grow width`: a wider or narrower model."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.completion import methods_of
from regraft.cli.grow.group import group
from regraft.cli.grow.options import Corpus, Hidden, Learning, Reading, budgets, context_of


@verb(group=group)
def width(
    model: o.Model,
    *,
    hidden: Hidden,
    ffn: Annotated[int | None, typer.Option("--ffn", help="Neurons of a layer; in proportion if left out.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Directory to write; appears whole or not at all.")],
    method: Annotated[
        str, typer.Option(help="How new units are made; see `regraft methods`.", autocompletion=methods_of("width-grower"))
    ] = "net2net",
    settings: Annotated[list[str] | None, typer.Option("--set", help="A hyper-parameter, field=value. Repeatable.")] = None,
    corpus: Corpus = None,
    learning: Learning,
    reading: Reading,
    placement: o.Placement,
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Write MODEL with another width: more units made of those that were learned, or those that matter most."""
    from regraft.grow.job import Job, grow
    from regraft.grow.width.axes import Size
    from regraft.method import resolve
    from regraft.method.settings_text import parse_settings

    grower = resolve("width-grower", method, parse_settings(settings or []))
    steps, training = budgets(learning, grower.learns)
    job = Job.prepare(
        model,
        corpus,
        context_of(placement, steps),
        held_out=reading.held_out,
        text_column=reading.text_column,
        score_bytes=o.parse_score_bytes(reading.score_bytes),
    )
    done = grow(job, grower, Size(hidden, ffn), out=out, training=training, overwrite=overwrite)
    if not json_output:
        done.report.print()
        print(f"\ncheckpoint: {out}\nreport:     {out / 'report.html'}")
    return done.figures
