"""`regraft grow hypernet`: a hypernetwork trained on small architectures."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.grow.group import group


@o.options
class Budget:
    """How long is trained, and how."""

    steps: Annotated[int, typer.Option(help="Steps of training.")] = 2000
    batch_size: Annotated[int, typer.Option(help="Examples a step.")] = 64
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 3e-4
    train_settings: Annotated[
        list[str] | None,
        typer.Option("--train-set", help="Another option of training, field=value: m, gamma, wd, clip, ema, amp, ... Repeatable."),
    ] = None
    seed: o.Seed = 0
    device: o.Device = "cpu"


@verb(group=group)
def hypernet(
    space: Annotated[
        str,
        typer.Argument(
            help="Architectures to train on: vits-1k, gpts-1k, vits-digits, or a YAML file with model_type, depth, tiers.", metavar="SPACE"
        ),
    ],
    *,
    data: Annotated[str, typer.Option("--data", help="digits, an .npz file with images and labels, or text.")],
    out: Annotated[Path, typer.Option("--out", help="File for the hypernetwork, .safetensors.")],
    tokenizer: Annotated[str | None, typer.Option("--tokenizer", help="Directory of the tokenizer that reads text.")] = None,
    block: Annotated[int, typer.Option(min=2, help="Tokens of a sequence.")] = 64,
    method: Annotated[str, typer.Option("--method", help="See `regraft methods --family weight-predictor`.")] = "logah",
    settings: Annotated[list[str] | None, typer.Option("--set", help="A parameter of the method, field=value. Repeatable.")] = None,
    budget: Budget,
    validate_on: Annotated[
        str | None,
        typer.Option("--validate", help="depth,width of the architecture that chooses the best step. Default: wider than the space."),
    ] = None,
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Train a hypernetwork on many small architectures; started again, an interrupted run goes on."""
    from regraft.grow.predict.train import hypernet as run
    from regraft.method import parse_settings

    training = {"steps": budget.steps, "batch": budget.batch_size, "lr": budget.lr, **parse_settings(budget.train_settings or [])}
    done = run(
        space,
        data,
        method=method,
        settings=parse_settings(settings or []),
        training=training,
        out=out,
        tokenizer=tokenizer,
        block=block,
        validate=validate_on,
        seed=budget.seed,
        device=budget.device,
        overwrite=overwrite,
    )
    if not json_output:
        size = f"{done['parameters']:,} parameters, {done['bytes'] / 1e6:.1f} MB"
        print(f"{done['method']} with {size}, best at step {done['best_step']}: {out}")
    return done
