"""Options that verbs of `regraft align` share."""

from pathlib import Path
from typing import Annotated

import typer

from regraft.cli import options as o

Source = Annotated[Path, typer.Argument(help="Vectors of the source: .vec, .txt, .bin, .npy, .safetensors, or a checkpoint.", metavar="X")]
Target = Annotated[Path, typer.Argument(help="Vectors of the target.", metavar="Y")]
Map = Annotated[Path, typer.Argument(help="A directory that `regraft align fit` wrote.", metavar="MAP")]
Neighbourhood = Annotated[int, typer.Option("--csls", min=1, help="Neighbours that a hubness term of CSLS is the mean of.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="A parameter of the method, field=value. Repeatable.")]


@o.options
class Tables:
    """How much of the tables is read."""

    limit: Annotated[int, typer.Option(min=1, help="Read so many first rows of either table.")] = 200_000
    source_latin: Annotated[bool, typer.Option(help="Keep words of the source that have only code points below 256.")] = True
    target_latin: Annotated[bool, typer.Option(help="The same of the target.")] = True


@o.options
class Pairs:
    """What a map is learned from."""

    dictionary: Annotated[Path | None, typer.Option("--dictionary", help="Pairs to learn from: source word, target word a line.")] = None
    seeds: Annotated[str | None, typer.Option("--seeds", help="Without a dictionary: identical (words) or numerals, written alike.")] = None
