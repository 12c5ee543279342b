"""Draw a prompt with taught concepts in it, and write the images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from regraft.concepts.concept import Concept, load_concept
from regraft.concepts.drawing import Drawing
from regraft.concepts.drawing import draw as draw_images
from regraft.concepts.host.images import to_pil
from regraft.concepts.host.pipeline import open_pipeline
from regraft.concepts.host.words import joined
from regraft.concepts.steering.steering import steer
from regraft.errors import OutputError, ParameterError
from regraft.output import atomic_file
from regraft.progress import step


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is drawn. `concepts` : paths. `remove` : words whose meaning is taken out by `strength` (0 to 1), by the method `steer`.

    truncate : what a mapper keeps. count : how many images.
    """

    prompt: str
    concepts: tuple[str, ...] = ()
    remove: str | None = None
    strength: float = 0.7
    steer: str = "decor"
    truncate: int | None = None
    count: int = 1


def draw(
    pipeline: str, asked: Asked, how: Drawing, *, out: Path, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """Write `asked.count` images to `out`: one to that file; of several each beside it by number, and a contact sheet there.

    Raises `OutputError`: `out` is no image file; `ParameterError`: a prompt without the word of a concept.
    """
    if out.is_dir() or out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise OutputError(f"--out {out}: name an image file, such as {out.with_suffix('.png').name}")
    concepts = [truncated(load_concept(path), asked.truncate) for path in asked.concepts]
    joined([one.words() for one in concepts])
    if absent := [one.word for one in concepts if one.word not in asked.prompt]:
        raise ParameterError(
            f"--prompt {asked.prompt!r} does not hold {absent[0]}: write the concept's word into it, or leave the concept out"
        )
    with step("opening the pipeline"):
        opened = open_pipeline(pipeline, device=device, dtype=dtype)
    change = None if asked.remove is None else steer([asked.remove], asked.strength, method=asked.steer)
    images = draw_images(opened, concepts, [asked.prompt] * asked.count, how, steer=change)
    pictures = to_pil(images)
    files = [out] if asked.count == 1 else [out.with_stem(f"{out.stem}-{number}") for number in range(1, asked.count + 1)]
    for file, picture in zip(files, pictures, strict=True):
        _write(file, picture)
    if asked.count > 1:
        _write(out, contact_sheet(pictures))
    return {"images": [str(file) for file in ([*files, out] if asked.count > 1 else files)], "notes": [], "seed": how.seed}


def truncated(concept: Concept, keep: int | None) -> Concept:
    """The concept with its first `keep` parts. Raises `ParameterError` where it has none."""
    if keep is None:
        return concept
    if not hasattr(concept, "truncated"):
        raise ParameterError(f"--truncate {keep}: {concept.word} is a {concept.kind}, which has nothing to truncate")
    return concept.truncated(keep)  # type: ignore[no-any-return]


def contact_sheet(pictures: list[Any]) -> Any:
    """Pictures beside each other, four in a row."""
    from PIL import Image

    width, height = pictures[0].size
    rows = -(-len(pictures) // 4)
    whole = Image.new("RGB", (width * min(4, len(pictures)), height * rows), "white")
    for number, picture in enumerate(pictures):
        whole.paste(picture, (number % 4 * width, number // 4 * height))
    return whole


def _write(file: Path, picture: Any) -> None:
    with atomic_file(file) as place:
        picture.save(place, "PNG" if file.suffix.lower() == ".png" else "WEBP" if file.suffix.lower() == ".webp" else "JPEG")
