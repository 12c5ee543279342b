"""`regraft grow guide`: training the untrainable."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.grow.group import group


@o.options
class Steps:
    """How long is trained, and how."""

    steps: Annotated[int, typer.Option(help="Steps of training.")] = 300
    batch_size: Annotated[int, typer.Option(help="Examples a step.")] = 256
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 1e-3
    seed: o.Seed = 0


@verb(group=group)
def guide(
    target: Annotated[
        str, typer.Argument(help="deep-fcn, wide-fcn, plain-cnn, resnet, rnn, transformer, or a directory of this.", metavar="TARGET")
    ],
    *,
    guide: Annotated[str, typer.Option("--guide", help="The same choice; at random unless --guide-steps.")],
    data: Annotated[str, typer.Option("--data", help="digits, or a .npz file with x (examples, ...) and y (examples,).")],
    out: Annotated[Path, typer.Option("--out", help="Directory for the trained target.")],
    method: Annotated[str, typer.Option("--method", help="See `regraft methods --family guide`.")] = "guidance",
    settings: Annotated[list[str] | None, typer.Option("--set", help="A parameter of the method, field=value. Repeatable.")] = None,
    guide_steps: Annotated[int, typer.Option("--guide-steps", min=0, help="Train the guide first, for so many steps.")] = 0,
    budget: Steps,
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Train a network whose shape resists training, its layers drawn to those of a guide; and the same without, beside it."""
    from regraft.grow.guide.train import Budget, train_guided
    from regraft.method import parse_settings

    figures = train_guided(
        target,
        guide=guide,
        data=data,
        out=out,
        method=method,
        settings=parse_settings(settings or []),
        budget=Budget(**vars(budget)),
        guide_steps=guide_steps,
        overwrite=overwrite,
    )
    if not json_output:
        print(
            f"accuracy {figures['accuracy']:.3f}, without a guide {figures['without_guide']:.3f}; the guide {figures['guide_accuracy']:.3f}"
        )
        print(f"{out}: open it with regraft.grow.guide.load('{out}')")
    return figures
