"""`regraft bias symbols`: a language model that does not know its symbols, trained on texts."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.bias.group import group


@verb(group=group)
def symbols(
    texts: Annotated[list[Path], typer.Argument(help="Files or folders of texts; they are read in small letters.", metavar="TEXTS...")],
    *,
    out: Annotated[Path, typer.Option("--out", help="Directory for the model.")],
    steps: Annotated[int, typer.Option("--steps", help="Steps of the model.", min=1)] = 1000,
    probe_steps: Annotated[int, typer.Option("--probe-steps", help="Steps of the probe that names symbols.", min=1)] = 300,
    hidden: Annotated[int, typer.Option("--hidden", help="Width of the model.", min=8)] = 64,
    layers: Annotated[int, typer.Option("--layers", help="Layers of the model.", min=1)] = 2,
    context: Annotated[int, typer.Option("--context", help="Characters that it sees.", min=8)] = 128,
    batch: Annotated[int, typer.Option("--batch", help="Windows a step.", min=1)] = 16,
    seed: o.Seed = 0,
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Train a model whose characters have random vectors in each text, and a probe that names them: what `decipher` needs."""
    from regraft.bias.lexinvariant.reading import Reader, train_reader

    given = Reader(hidden_size=hidden, layers=layers, context=context, steps=steps, probe_steps=probe_steps, batch=batch, seed=seed)
    figures = train_reader(texts, given, out, overwrite=overwrite)
    if not json_output:
        print(
            f"{figures['nats']:.3f} nats a character on held-out text, {figures['nats_last_quarter']:.3f} late in the context, "
            f"{figures['nats_uniform']:.3f} by chance"
        )
        print(
            f"as a cipher, its places are named right: {figures['places_right_by_probe']:.0%}; "
            f"by the frequency of characters alone: {figures['places_right_by_frequency']:.0%}"
        )
        print(out)
    return figures
