"""`regraft bias decipher`: what a model that does not know its symbols makes out of a cipher."""

from pathlib import Path
from typing import Annotated, Any

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.bias.group import group


@verb(group=group)
def decipher(
    model: Annotated[Path, typer.Argument(help="Directory that regraft bias symbols wrote.", metavar="MODEL")],
    *,
    cipher: Annotated[Path, typer.Option("--cipher", help="Text whose every character is exchanged for another.")],
    plain: Annotated[Path | None, typer.Option("--plain", help="What it stands for, to count what is right.")] = None,
    draws: Annotated[int, typer.Option("--draws", help="Tables of random vectors a part of the text.", min=1)] = 4,
    seed: o.Seed = 0,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Name each character of a cipher: what the model infers it to be, one for one, and how sure it is."""
    from regraft.bias.lexinvariant.reading import read_cipher

    found = read_cipher(model, cipher, plain, draws=draws, seed=seed)
    if not json_output:
        print(found["text"])
        print(", ".join(f"{one!r} is {name!r} ({found['certainty'][one]:.0%})" for one, name in found["key"].items()))
        if plain is not None:
            print(f"{found['places_right']:.0%} of {found['symbols']:,} places are right")
    return found
