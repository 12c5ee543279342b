"""`regraft bias rich-features`: an encoder that holds more than the easiest feature, and what penalties make of it."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.bias.group import group


@o.options
class Construction:
    """How features are found and put together."""

    panel: ClassVar[str] = "Construction"

    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of discovery.")] = 2
    first_steps: Annotated[int, typer.Option(min=1, help="Steps of round 0: few, so that it has the easiest feature only.")] = 51
    round_steps: Annotated[int, typer.Option(min=1, help="Steps of each later round.")] = 501
    synthesis_steps: Annotated[int, typer.Option(min=1, help="Steps of synthesis.")] = 501
    hidden: Annotated[int, typer.Option("--hidden", min=1, help="Units of both layers of the encoder.")] = 390


@o.options
class Afterwards:
    """What is trained on the features."""

    panel: ClassVar[str] = "Objectives"

    objective: Annotated[
        str, typer.Option("--objective", help="erm, irm, vrex, sd, iga, fishr, clove, groupdro, with commas; all for all of them.")
    ] = "vrex"
    weight: Annotated[float | None, typer.Option("--weight", min=0, help="Of the penalty; else 10,000, and 100 of sd.")] = None
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of the objective.")] = 1001
    fine_tune: Annotated[bool, typer.Option("--fine-tune", help="Train all weights, not the head alone.")] = False


@verb(group=group, name="rich-features")
def rich_features(
    task: Annotated[
        str, typer.Argument(help="colored_mnist, inverse_colored_mnist, colored_digits, or a .safetensors file.", metavar="TASK")
    ],
    *,
    construction: Construction,
    afterwards: Afterwards,
    out: Annotated[Path | None, typer.Option("--out", help="Directory for encoder, rounds, figures and page; appears whole.")] = None,
    overwrite: o.Overwrite = False,
    seed: o.Seed = 0,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Find features one after the other, put them into one encoder, and train what should hold in every environment."""
    from typing import get_args

    from regraft.bias.prior import Plan
    from regraft.bias.priors.rich_feature_construction import RichFeatureConstruction
    from regraft.bias.rich.job import rich_features_on
    from regraft.bias.rich.objectives import Name
    from regraft.bias.tasks.task import open_task

    names = [name.strip() for name in afterwards.objective.split(",") if name.strip()]
    method = RichFeatureConstruction(**vars(construction), frozen=not afterwards.fine_tune)
    report, figures = rich_features_on(
        open_task(task),
        method,
        list(get_args(Name)) if names == ["all"] else names,
        plan=Plan(steps=afterwards.steps, seed=seed),
        weight=afterwards.weight,
        out=out,
        overwrite=overwrite,
    )
    if not json_output:
        report.print()
        if out is not None:
            print(f"\n{out}: encoder.safetensors, rounds.safetensors, rich-features.json, rich-features.html")
    return figures
