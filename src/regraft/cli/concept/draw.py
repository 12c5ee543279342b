"""`regraft concept draw`: images of prompts with taught concepts in them, and with what is unwanted taken out."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.completion import methods_of
from regraft.cli.concept.group import group
from regraft.cli.concept.options import Drawn, Pipeline, Where, drawing_of, dtype_of


@o.options
class Steering:
    """What is taken out of the prompt."""

    panel: ClassVar[str] = "What is taken out"

    remove: Annotated[str | None, typer.Option("--remove", help="Words whose meaning is taken out of the prompt.")] = None
    strength: Annotated[float, typer.Option("--strength", help="How much of it is taken out.", min=0, max=1)] = 0.7
    steer: Annotated[str, typer.Option("--steer", help="How it is taken out.", autocompletion=methods_of("prompt-steering"))] = "decor"


@verb(group=group)
def draw(
    pipeline: Pipeline,
    *,
    concepts: Annotated[
        list[str] | None, typer.Option("--concept", help="Directory or .safetensors file of a taught concept. Repeatable.", metavar="DIR")
    ] = None,
    prompt: Annotated[str, typer.Option("--prompt", help="What to draw, with the concepts' words in it.")],
    steering: Steering,
    truncate: Annotated[
        int | None, typer.Option("--truncate", help="Of a mapper (neti): fewer are coarser and follow the prompt more.", min=1)
    ] = None,
    count: Annotated[int, typer.Option("--count", help="How many images, each with noise of its own.", min=1)] = 1,
    out: Annotated[Path, typer.Option("--out", help="The .png file to write; of several images a contact sheet, each beside it.")],
    drawn: Drawn,
    where: Where,
    seed: o.Seed = 42,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Draw PROMPT by a pipeline that has the concepts in it, and stays as it was."""
    from regraft.concepts.draw import Asked
    from regraft.concepts.draw import draw as run

    asked = Asked(
        prompt=prompt,
        concepts=tuple(concepts or ()),
        remove=steering.remove,
        strength=steering.strength,
        steer=steering.steer,
        truncate=truncate,
        count=count,
    )
    found = run(pipeline, asked, drawing_of(drawn, seed), out=out, device=where.device, dtype=dtype_of(where.dtype))
    if not json_output:
        for line in found["notes"]:
            print(line)
        print("\n".join(found["images"]))
    return found
