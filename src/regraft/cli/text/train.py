"""`regraft text train`: an encoder trained, with its gain on tasks it has not seen."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.text.group import group
from regraft.cli.text.options import MaxTokens, Model


@o.options
class Steps:
    """How long is trained, and how."""

    steps: Annotated[int, typer.Option(help="Steps of training.")] = 200
    batch_size: Annotated[int, typer.Option(help="Examples a step.")] = 32
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 2e-5
    seed: o.Seed = 0
    device: o.Device = "cpu"


@verb(group=group)
def train(
    model: Model,
    *,
    examples: Annotated[list[str], typer.Option("--examples", help="Files, or sts, sick, trec, wordnet by name. Repeatable.")],
    out: Annotated[Path, typer.Option("--out", help="Directory for the trained encoder.")],
    method: Annotated[str, typer.Option("--method", help="See `regraft methods --family tuner`.")] = "contrastive",
    settings: Annotated[list[str] | None, typer.Option("--set", help="A parameter of the method, field=value. Repeatable.")] = None,
    pooling: Annotated[
        str, typer.Option("--pooling", help="The way of encoding that is trained; nv-embed:pooling=mean sets a field of it.")
    ] = "as-is",
    budget: Steps,
    tasks: Annotated[
        str, typer.Option("--tasks", help="Measured before and after: names or files with commas between; '' for none.")
    ] = "sts",
    max_tokens: MaxTokens = None,
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Train an encoder on pairs, scored pairs, labels or a dictionary; what it gained is measured on other texts."""
    from regraft.method import parse_settings
    from regraft.text.fitting import Budget
    from regraft.text.train import check_budget
    from regraft.text.train import train as run

    check_budget(budget.steps, budget.batch_size, budget.lr)
    report, figures = run(
        model,
        examples,
        out=out,
        method=method,
        settings=parse_settings(settings or []),
        encode_by=pooling,
        budget=Budget(**vars(budget)),
        tasks=tasks,
        max_tokens=max_tokens,
        overwrite=overwrite,
    )
    if not json_output:
        report.print()
        print(f"{out}: open it with {figures['open']}")
    return figures
