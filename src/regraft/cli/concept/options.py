"""Options that verbs of `regraft concept` share."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from regraft.cli import options as o

Pipeline = Annotated[
    str, typer.Argument(help="A pipeline of diffusers: a directory, a .safetensors file, a Hub id, or toy-t2i.", metavar="PIPELINE")
]


@o.options
class Taught:
    """What a concept is taught from."""

    panel: ClassVar[str] = "What it is taught from"

    images: Annotated[Path, typer.Option("--images", help="Folder of pictures; a .txt beside one tells its caption.")]
    word: Annotated[str, typer.Option("--word", help="The new word, such as '<my-cat>'.")]
    init: Annotated[str, typer.Option("--init", help="A word that it is a case of, such as cat: learning begins there.")]
    kind: Annotated[str, typer.Option("--kind", help="What captions speak of: object, style or face.")] = "object"
    templates: Annotated[Path | None, typer.Option("--templates", help="File of captions, one a line, {} where the word stands.")] = None
    crop: Annotated[bool, typer.Option("--crop", help="Take the middle square of pictures that are none.")] = False


@o.options
class Budget:
    """How long is learned."""

    panel: ClassVar[str] = "How long"

    steps: Annotated[int | None, typer.Option("--steps", help="Steps of the optimizer. Default: the method's own.", min=1)] = None
    accumulate: Annotated[int, typer.Option("--accumulate", help="Batches a step.", min=1)] = 1


@o.options
class Trials:
    """How methods are tried."""

    panel: ClassVar[str] = "How they are tried"

    seeds: Annotated[int, typer.Option("--seeds", help="How many times each is taught.", min=1)] = 3
    copies: Annotated[int, typer.Option("--copies", help="Images of each prompt.", min=1)] = 2
    prompts: Annotated[Path | None, typer.Option("--prompts", help="File of prompts to draw, one a line, {} where the word stands.")] = None
    judge: Annotated[
        str | None, typer.Option("--judge", help="A CLIP model, by directory or Hub id, that says what is drawn (toy-t2i has its own).")
    ] = None


@o.options
class Drawn:
    """How images are drawn."""

    panel: ClassVar[str] = "How images are drawn"

    sampling_steps: Annotated[int, typer.Option("--sampling-steps", help="Steps of the pipeline's sampler.", min=1)] = 25
    guidance: Annotated[float, typer.Option("--guidance", help="How closely the prompt is followed; 1: without guidance.", min=1)] = 7.5
    negative: Annotated[str, typer.Option("--negative", help="What to draw away from.")] = ""


@o.options
class Where:
    """Where and how exactly is computed."""

    panel: ClassVar[str] = "Where it runs"

    device: o.Device = "cpu"
    dtype: Annotated[str, typer.Option(help="Of the frozen pipeline: float32, bfloat16 or float16; what is learned is float32.")] = (
        "float32"
    )


def materials(pipeline: str, taught: Taught, where: Where) -> Any:
    """What the jobs take. Raises `ParameterError`."""
    from regraft.concepts.learn import Materials

    return Materials(
        pipeline=pipeline,
        images=taught.images,
        word=taught.word,
        init=taught.init,
        kind=one_of("--kind", taught.kind, ("object", "style", "face")),  # type: ignore[arg-type]
        templates=taught.templates,
        crop=taught.crop,
        device=where.device,
        dtype=dtype_of(where.dtype),
    )


def dtype_of(name: str) -> Any:
    """The type of that name. Raises `ParameterError`."""
    import torch

    return getattr(torch, one_of("--dtype", name, ("float32", "bfloat16", "float16")))


def one_of(option: str, given: str | None, known: tuple[str, ...]) -> str:
    """`given`, if it is known, and nothing for nothing. Raises `ParameterError`."""
    from regraft.errors import ParameterError

    if given is None:
        return ""
    if given not in known:
        raise ParameterError(f"{option} {given}: choose {', '.join(known)}")
    return given


def drawing_of(drawn: Drawn, seed: int) -> Any:
    """What the jobs take."""
    from regraft.concepts.drawing import Drawing

    return Drawing(steps=drawn.sampling_steps, guidance=drawn.guidance, negative=drawn.negative, seed=seed)
