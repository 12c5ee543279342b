"""Options that several verbs of encoders take."""

from typing import Annotated

import typer

from regraft.cli import options as o

Model = Annotated[str, typer.Argument(help="A checkpoint directory or Hub id.", metavar="MODEL")]
MaxTokens = Annotated[int | None, typer.Option(min=8, help="Longest text that is read; by default the model's own, at most 512.")]


@o.options
class Machine:
    """How texts go through the model."""

    max_tokens: MaxTokens = None
    batch_size: Annotated[int, typer.Option(min=1, help="Texts at once.")] = 32
    device: o.Device = "cpu"
