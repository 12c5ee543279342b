"""`regraft grow compare`: ways to another size beside the untouched model."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.grow.group import group
from regraft.cli.grow.options import Corpus, Learning, Reading, budgets, context_of


@verb(group=group)
def compare(
    model: o.Model,
    *,
    layers: Annotated[int | None, typer.Option("--layers", help="Compare ways to so many layers.")] = None,
    hidden: Annotated[int | None, typer.Option("--hidden", help="Compare ways to this width of the residual stream.")] = None,
    methods: Annotated[str, typer.Option(help="Names separated by commas, or all.")] = "all",
    settings: Annotated[list[str] | None, typer.Option("--set", help="A hyper-parameter, method.field=value. Repeatable.")] = None,
    corpus: Corpus = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory for the page, the JSON and finished rows; the same call resumes.")
    ] = None,
    learning: Learning,
    reading: Reading,
    placement: o.Placement,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Grow MODEL in several ways and score each beside it: as grown, and after the same training."""
    from regraft.errors import ParameterError
    from regraft.grow.compare import compare as run
    from regraft.grow.job import Job
    from regraft.method.settings_text import parse_settings

    given = [(family, size) for family, size in (("depth-grower", layers), ("width-grower", hidden)) if size is not None]
    if len(given) != 1:
        raise ParameterError("compare needs one size: give --layers N or --hidden N")
    [(family, size)] = given
    steps, training = budgets(learning, learns=False)
    by_method: dict[str, dict[str, Any]] = {}
    for key, value in parse_settings(settings or []).items():
        name, dot, field = key.partition(".")
        if not dot:
            raise ParameterError(f"--set {key}={value}: write it as method.field=value")
        by_method.setdefault(name, {})[field] = value
    job = Job.prepare(
        model,
        corpus,
        context_of(placement, steps),
        held_out=reading.held_out,
        text_column=reading.text_column,
        score_bytes=o.parse_score_bytes(reading.score_bytes),
    )
    names = [name.strip() for name in methods.split(",") if name.strip()]
    done = run(job, family, size, methods=names, settings=by_method, training=training, out=out)
    if not json_output:
        done.report.print()
    return {"rows": done.rows}
