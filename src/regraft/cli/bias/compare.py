"""`regraft bias compare`: priors beside the plain network on a task."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.bias.group import group


@verb(group=group)
def compare(
    task: Annotated[
        str,
        typer.Argument(help="A task by name (digits, omniglot-characters, delay, permuted-digits, letters, lookup, ...).", metavar="TASK"),
    ],
    *,
    methods: Annotated[str, typer.Option(help="Names separated by commas, or all that can learn the task.")] = "all",
    settings: Annotated[list[str] | None, typer.Option("--set", help="A hyper-parameter, method.field=value. Repeatable.")] = None,
    steps: Annotated[int, typer.Option("--steps", help="Steps of the optimizer.", min=1)] = 300,
    batch: Annotated[int, typer.Option("--batch", help="Examples a step.", min=1)] = 50,
    seeds: Annotated[int, typer.Option("--seeds", help="How many times each is trained.", min=1)] = 3,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory for the page, the JSON and finished rows; the same call resumes.")
    ] = None,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Train each prior and the plain network on TASK, and set them beside each other on held-out examples."""
    from regraft.bias.compare import compare as run
    from regraft.bias.prior import Plan
    from regraft.bias.tasks.task import open_task
    from regraft.errors import ParameterError
    from regraft.method.settings_text import parse_settings

    by_method: dict[str, dict[str, Any]] = {}
    for key, value in parse_settings(settings or []).items():
        name, dot, field = key.partition(".")
        if not dot:
            raise ParameterError(f"--set {key}={value}: write it as method.field=value")
        by_method.setdefault(name, {})[field] = value
    names = [name.strip() for name in methods.split(",") if name.strip()]
    done = run(open_task(task), methods=names, settings=by_method, plan=Plan(steps=steps, batch=batch), seeds=seeds, out=out)
    if not json_output:
        done.report.print()
    return {"rows": done.rows}
