"""`regraft concept sweep`: prompts without something unwanted, at several strengths."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.completion import methods_of
from regraft.cli.concept.group import group
from regraft.cli.concept.options import Drawn, Pipeline, Where, drawing_of, dtype_of


@o.options
class Removed:
    """What is taken out of the prompts."""

    panel: ClassVar[str] = "What is taken out"

    remove: Annotated[list[str], typer.Option("--remove", help="Words whose meaning is taken out. Repeatable.")]
    strengths: Annotated[str, typer.Option("--strengths", help="How much is taken out, numbers separated by commas.")] = "0,0.25,0.5,0.75,1"
    method: Annotated[
        str, typer.Option("--steer", help="See `regraft methods --family prompt-steering`.", autocompletion=methods_of("prompt-steering"))
    ] = "decor"
    settings: Annotated[list[str] | None, typer.Option("--set", help="A hyper-parameter of it, field=value. Repeatable.")] = None


@o.options
class Judged:
    """Who judges the images, and by what."""

    panel: ClassVar[str] = "How images are judged"

    images: Annotated[Path | None, typer.Option("--images", help="Folder of pictures of the concept, by which drawn ones are judged.")] = (
        None
    )
    judge: Annotated[
        str | None, typer.Option("--judge", help="A CLIP model, by directory or Hub id, that says what is drawn (toy-t2i has its own).")
    ] = None


@verb(group=group)
def sweep(
    pipeline: Pipeline,
    *,
    concepts: Annotated[
        list[str] | None, typer.Option("--concept", help="Directory or .safetensors file of a taught concept. Repeatable.", metavar="DIR")
    ] = None,
    prompts: Annotated[list[str], typer.Option("--prompt", help="What to draw. Repeatable.")],
    removed: Removed,
    copies: Annotated[int, typer.Option("--copies", help="Images of each prompt.", min=1)] = 4,
    judged: Judged,
    drawn: Drawn,
    where: Where,
    seed: o.Seed = 42,
    out: Annotated[Path, typer.Option("--out", help="Directory for the page, the images and the figures.")],
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Draw prompts at several strengths of taking something out of them, and score the concept beside the rest of the prompt."""
    from regraft.concepts.concept import load_concept
    from regraft.concepts.host.images import read_pictures, side_of
    from regraft.concepts.host.pipeline import open_pipeline
    from regraft.concepts.judges.choice import judge_of
    from regraft.concepts.steering.sweep import Asked, write_sweep
    from regraft.errors import ParameterError
    from regraft.method.settings_text import parse_settings
    from regraft.output import check_output

    if judged.judge is not None and judged.images is None:
        raise ParameterError("--judge tells a concept by its pictures: give --images too")
    check_output(out, overwrite=overwrite)
    asked = Asked(
        prompts=tuple(prompts),
        unwanted=tuple(removed.remove),
        strengths=numbers(removed.strengths),
        copies=copies,
        method=removed.method,
        settings=parse_settings(removed.settings or []),
    )
    taught = [load_concept(path) for path in concepts or ()]
    opened = open_pipeline(pipeline, device=where.device, dtype=dtype_of(where.dtype))
    reader = None
    if judged.images is not None:
        reader = judge_of(pipeline, judged.judge, read_pictures(judged.images, side_of(opened)).images, where.device)
    report, figures = write_sweep(opened, taught, asked, drawing_of(drawn, seed), reader, source=pipeline, out=out, overwrite=overwrite)
    if not json_output:
        report.print()
        print(out)
    return figures


def numbers(text: str) -> tuple[float, ...]:
    """`"0,0.5,1"` as numbers. Raises `ParameterError`."""
    from regraft.errors import ParameterError

    try:
        return tuple(sorted({float(part) for part in text.split(",") if part.strip()}))
    except ValueError:
        raise ParameterError(f"--strengths {text}: write numbers separated by commas, such as 0,0.5,1") from None
