"""`regraft grow compare`: ways to another size beside the untouched model."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from regraft.cli import options as o
from regraft.cli.app import print_error, verb
from regraft.cli.grow.group import group
from regraft.cli.grow.options import Corpus, Learning, Reading, budgets, context_of


@o.options
class Sizes:
    """What the ways lead to: one of these."""

    panel: ClassVar[str] = "Size"

    layers: Annotated[int | None, typer.Option("--layers", help="Compare ways to so many layers.")] = None
    hidden: Annotated[int | None, typer.Option("--hidden", help="Compare ways to this width of the residual stream.")] = None
    experts: Annotated[int | None, typer.Option("--experts", help="Compare ways to so many experts a layer.")] = None
    top_k: Annotated[int | None, typer.Option("--top-k", help="With --experts: how many of them a token takes; a quarter if left out.")] = (
        None
    )


@verb(group=group)
def compare(
    model: o.Model,
    *,
    size: Sizes,
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
    from regraft.errors import ParameterError, RegraftError
    from regraft.grow.compare import compare as run
    from regraft.grow.job import Job
    from regraft.method.settings_text import parse_settings

    sizes = {"depth-grower": size.layers, "width-grower": size.hidden, "expert-grower": size.experts}
    given = [(family, asked) for family, asked in sizes.items() if asked is not None]
    if len(given) != 1:
        raise ParameterError("compare needs one size: give --layers N, --hidden N or --experts N")
    [(family, asked)] = given
    if size.top_k is not None and size.experts is None:
        raise ParameterError("--top-k is how many experts a token takes: give --experts N")
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
    taken: dict[str, Any] = {}
    if size.experts is not None:
        taken["taken"] = partial(with_experts, size.experts, size.top_k or max(1, size.experts // 4))
    done = run(job, family, asked, methods=names, settings=by_method, training=training, out=out, **taken)
    if not json_output:
        done.report.print()
    if failures := done.failures:
        if json_output:
            print(json.dumps({"rows": done.rows}, ensure_ascii=False))
        for line in failures:
            print_error(line)
        raise RegraftError(f"no method could be compared: {len(failures)} of {len(failures)} failed")
    return {"rows": done.rows}


def with_experts(experts: int, top_k: int, method: Any) -> Any:
    """`method` with these numbers, as the comparison takes it."""
    from regraft.grow.experts.opening import Compared
    from regraft.method import configure

    given = {name: getattr(method, name) for name in method.parameters()}
    return Compared(configure(type(method), given | {"experts": experts, "top_k": top_k}))
