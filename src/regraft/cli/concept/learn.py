"""`regraft concept learn`: a new word for a text-to-image model, from pictures."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.completion import methods_of
from regraft.cli.concept.group import group
from regraft.cli.concept.options import Budget, Drawn, Pipeline, Taught, Where, drawing_of, materials


@verb(group=group)
def learn(
    pipeline: Pipeline,
    taught: Taught,
    *,
    out: Annotated[
        Path, typer.Option("--out", help="Directory to write; appears whole or not at all. The same call goes on after a stop.")
    ],
    method: Annotated[
        str, typer.Option("--method", help="One of `regraft methods`.", autocompletion=methods_of("concept-method"))
    ] = "cross-initialization",
    settings: Annotated[list[str] | None, typer.Option("--set", help="A hyper-parameter, field=value. Repeatable.")] = None,
    budget: Budget,
    preview: Annotated[int, typer.Option("--preview", help="Prompts drawn for the page; 0: none.", min=0)] = 4,
    drawn: Drawn,
    where: Where,
    seed: o.Seed = 42,
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Teach a frozen pipeline a new word, say whether it was learned, and keep it as a file that diffusers, ComfyUI and A1111 load."""
    from regraft.concepts.learn import learn as run
    from regraft.concepts.method import Plan
    from regraft.method.settings_text import parse_settings

    done = run(
        materials(pipeline, taught, where),
        method,
        out=out,
        settings=parse_settings(settings or []),
        plan=Plan(steps=budget.steps, seed=seed, accumulate=budget.accumulate),
        drawing=drawing_of(drawn, seed),
        preview=preview,
        overwrite=overwrite,
    )
    if not json_output:
        done.report.print()
        print(out)
    return done.figures
