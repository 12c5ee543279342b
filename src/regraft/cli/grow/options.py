"""Options that several verbs of growth take."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from regraft.cli import options as o

Corpus = Annotated[
    list[str] | None,
    typer.Option("--corpus", help="Text: files, folders, globs, tables, - for stdin. Repeatable. Scored, learned from, trained on."),
    o.Yaml(about="files, folders, patterns"),
]
Hidden = Annotated[int, typer.Option("--hidden", help="Width of the new model's residual stream; heads keep their size and follow.")]
Layers = Annotated[int, typer.Option("--layers", help="How many layers the new model has.")]


@o.options
class Learning:
    """How long is trained."""

    panel: ClassVar[str] = "Training"

    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            min=1,
            help="Optimizer steps: of a method that learns before it grows (200 if left out), else of training the grown model (none).",
        ),
    ] = None
    train: Annotated[
        str | None,
        typer.Option("--train", help="Train the grown model: 200 for steps, 2min, 2epochs; for methods that learn, afterwards."),
        o.Yaml(about="budget of training: 2min, 200 (steps) or 2epochs", pattern=r"^\d+(\.\d+)?( ?[a-z]+)?$", as_text=True),
    ] = None
    train_settings: Annotated[
        list[str] | None,
        typer.Option("--train-set", help="A training option, field=value: lr, block, batch_size, parameters ... Repeatable."),
        o.Yaml(about="options of training: lr, block ..."),
    ] = None


@o.options
class Reading:
    """What is read of the text, and how much of it is scored."""

    panel: ClassVar[str] = "Scoring"

    text_column: o.TextColumn = None
    held_out: o.HeldOut = 0.1
    score_bytes: o.ScoreBytes = "30000"


def budgets(learning: Learning, learns: bool) -> tuple[int, Any]:
    """(steps of learning before the growth, training after it or None). Raises `ParameterError`."""
    from regraft.errors import ParameterError
    from regraft.method import configure
    from regraft.method.settings_text import parse_budget, parse_settings
    from regraft.training import Training

    length = {} if learning.train is None else parse_budget(learning.train)
    if learning.steps is not None and not learns:
        if length:
            raise ParameterError("--steps and --train both train the grown model here: give one of them")
        length = {"steps": learning.steps}
    asked = parse_settings(learning.train_settings or [])
    if asked and not length:
        raise ParameterError("--train-set needs a budget: give --train 2min or --train 200")
    training = configure(Training, SHORT | length | asked) if length and next(iter(length.values())) else None
    return learning.steps or STEPS, training


STEPS = 200
SHORT: dict[str, Any] = {
    "parameters": "all",
    "block": 128,
    "align_documents": True,
    "batch_size": 8,
    "accumulate": 1,
    "lr": 1e-4,
    "warmup": 0.1,
}


def context_of(placement: Any, steps: int, gene: Path | None = None, state: Path | None = None) -> Any:
    """The `Context` of these options."""
    from regraft.grow.grower import Context

    return Context(steps=steps, gene=gene, state=state, **vars(placement))
