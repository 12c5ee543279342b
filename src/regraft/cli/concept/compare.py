"""`regraft concept compare`: ways to teach a concept beside each other."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.concept.group import group
from regraft.cli.concept.options import Budget, Drawn, Pipeline, Taught, Trials, Where, drawing_of, materials


@verb(group=group)
def compare(
    pipeline: Pipeline,
    taught: Taught,
    *,
    methods: Annotated[str, typer.Option(help="Names separated by commas, or all.")] = "all",
    settings: Annotated[list[str] | None, typer.Option("--set", help="A hyper-parameter, method.field=value. Repeatable.")] = None,
    budget: Budget,
    trials: Trials,
    drawn: Drawn,
    where: Where,
    seed: o.Seed = 42,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory for the page, the images, the JSON and finished rows; the same call resumes.")
    ] = None,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Teach a concept by each method, and set identity beside prompt match on the same prompts and noise."""
    from regraft.concepts.compare import COMPOSED, Trial
    from regraft.concepts.compare import compare as run
    from regraft.concepts.host.captions import read_templates
    from regraft.concepts.judges.choice import judge_of
    from regraft.concepts.method import Plan
    from regraft.method.settings_text import by_method

    lesson = materials(pipeline, taught, where).lesson()
    done = run(
        lesson,
        methods=[name.strip() for name in methods.split(",") if name.strip()],
        settings=by_method(settings or []),
        plan=Plan(steps=budget.steps, seed=seed, accumulate=budget.accumulate),
        trial=Trial(
            seeds=trials.seeds,
            copies=trials.copies,
            prompts=COMPOSED if trials.prompts is None else tuple(read_templates(trials.prompts)),
            drawing=drawing_of(drawn, seed),
        ),
        judge=judge_of(pipeline, trials.judge, lesson.pictures.images, where.device),
        out=out,
    )
    if not json_output:
        done.report.print()
    return {"rows": done.rows, "notes": lesson.pictures.notes}
