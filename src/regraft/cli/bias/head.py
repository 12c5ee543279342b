"""`regraft bias head`: a trained classifier's head, exchanged for fixed class vectors."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.bias.group import group


@o.options
class Tuning:
    """How the network is tuned under its new head."""

    steps: Annotated[int, typer.Option("--steps", help="Steps of tuning.", min=1)] = 200
    batch: Annotated[int, typer.Option("--batch", help="Texts a step.", min=1)] = 16
    lr: Annotated[float, typer.Option("--lr", help="Peak learning rate.")] = 3e-4
    temperature: Annotated[float, typer.Option("--temperature", help="What cosines are divided by.")] = 0.07
    plain: Annotated[bool, typer.Option("--plain/--no-plain", help="Tune an ordinary head beside it.")] = True
    seed: o.Seed = 0


@verb(group=group)
def head(
    model: o.Model,
    *,
    classes: Annotated[Path, typer.Option("--classes", help="Names of the classes, one a line, in the order of the vectors.")],
    labels: Annotated[Path, typer.Option("--labels", help="CSV, TSV or JSONL with text and label to tune on.")],
    out: Annotated[Path, typer.Option("--out", help="Directory for the checkpoint.")],
    bases: Annotated[Path | None, typer.Option("--bases", help="From regraft bias bases. Default: orthonormal, one a class.")] = None,
    test_labels: Annotated[Path | None, typer.Option("--test-labels", help="What to measure by. Default: a fifth of --labels.")] = None,
    tuning: Tuning,
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Exchange the head of a text classifier for fixed class vectors, tune it, and set it beside an ordinary head."""
    from regraft.bias.equiangular.swap import Swap, swap
    from regraft.method import configure
    from regraft.tasks.fine_tuning import FineTuning

    fine = configure(FineTuning, {"steps": tuning.steps, "batch_size": tuning.batch, "lr": tuning.lr})
    given = Swap(labels=labels, test=test_labels, temperature=tuning.temperature, tuning=fine, seed=tuning.seed, plain=tuning.plain)
    figures = swap(model, classes, bases, given, out, overwrite=overwrite)
    if not json_output:
        beside = f", with an ordinary head {figures['accuracy_plain_head']:.3f}" if tuning.plain else ""
        print(f"accuracy {figures['accuracy']:.3f}{beside}, on {figures['held_out']:,} held-out texts")
        print(out)
    return figures
