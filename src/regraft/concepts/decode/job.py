"""What the verbs of `regraft concept decode` do: train, draw, vary, embed; each output appears whole, with `regraft.json`."""

import csv
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from diffusers.utils import logging
from torch import Tensor

from regraft.concepts.decode.decoder import EmbeddingDecoder, Examples, Plan
from regraft.concepts.decode.judging import Encoder, Similarity, similarity
from regraft.concepts.decode.large import Canvas, draw_large, in_grids
from regraft.concepts.decode.pictures import Pictures, Rows
from regraft.concepts.decode.pipeline import EmbeddingToImagePipeline, as_output
from regraft.concepts.decode.report import images_page
from regraft.concepts.decode.training import train
from regraft.errors import InputError
from regraft.meter import metered
from regraft.output import atomic_directory, check_output
from regraft.progress import step
from regraft.provenance import Given, record, save

PAGE, LABELS = "images.html", "labels.csv"


def open_pipeline(folder: str | Path, device: str = "cpu") -> EmbeddingToImagePipeline:
    """What `regraft concept decode train` wrote. Raises `InputError`: nothing of the kind."""
    if not Path(folder, "model_index.json").is_file():
        raise InputError(f"--model {folder}: holds no pipeline (model_index.json): give what `regraft concept decode train` wrote")
    logging.disable_progress_bar()
    try:
        found = EmbeddingToImagePipeline.from_pretrained(folder)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"--model {folder}: no pipeline of embeddings to images ({' '.join(str(error).split())[:200]})") from None
    if not hasattr(found, "conditioner"):
        raise InputError(f"--model {folder}: is a pipeline without a conditioner: give what `regraft concept decode train` wrote")
    return found.to(device)  # type: ignore[no-any-return]


def open_part(kind: Literal["vae", "unet"], folder: str | Path) -> Any:
    """An autoencoder (AutoencoderKL or VQModel, as its config says) or a U-Net. Raises `InputError`: it cannot be opened."""
    import json

    import diffusers

    path = Path(folder, "config.json")
    try:
        name = json.loads(path.read_text("utf-8")).get("_class_name", "") if path.is_file() else ""
        cls = UNet2DConditionModel if kind == "unet" else getattr(diffusers, name, None)
        if cls is None or (kind == "vae" and not hasattr(cls, "decode")):
            raise ValueError(f"its config names {name or 'no class'}")
        return cls.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder}: no {'autoencoder' if kind == 'vae' else 'U-Net'} of diffusers ({' '.join(str(error).split())[:200]})"
        ) from None


def train_to(
    out: Path,
    decoder: EmbeddingDecoder,
    examples: Examples,
    plan: Plan,
    *,
    source: Path,
    vae: Path | None = None,
    start: Path | None = None,
    device: str = "cpu",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Train, and write the pipeline. A run that is stopped leaves `OUT.unfinished` beside `out`, from which the same call goes on."""
    check_output(out, overwrite=overwrite, sources=(source,))
    unfinished = out.with_name(f"{out.name}.unfinished")
    curve: list[tuple[float, float]] = []
    parts = {"vae": None if vae is None else open_part("vae", vae), "start": None if start is None else open_part("unet", start)}
    with metered() as cost:
        pipeline = train(decoder, examples, plan, **parts, device=device, unfinished=unfinished, curve=curve)
    figures = {"loss": curve[-1][1] if curve else None, "seconds": cost.seconds, "peak_mb": cost.peak_mb, "images": len(examples.pictures)}
    figures["parameters"] = sum(one.numel() for part in (pipeline.unet, pipeline.conditioner) for one in part.parameters())
    with atomic_directory(out, overwrite=overwrite, sources=(source,)) as folder:
        pipeline.save_pretrained(folder)
        about = record(
            Given(source, digest=_digest(examples.embeddings)),
            "concept decode train",
            method=decoder.name,
            parameters={**asdict(decoder), **asdict(plan), "classes": examples.classes},
            seed=plan.seed,
            timings={"training": cost.seconds},
            metrics={"curve": curve, **figures},
            notes=examples.pictures.notes,
        )
        save(about, folder)
    shutil.rmtree(unfinished, ignore_errors=True)
    return figures


@dataclass(frozen=True)
class Drawing:
    """How images are drawn: as `EmbeddingToImagePipeline` says; `guidance_scale` None: 2, and 4 of large images."""

    steps: int = 50
    guidance_scale: float | None = None
    eta: float | None = None
    seed: int = 0
    batch: int = 64

    def images(self, pipeline: EmbeddingToImagePipeline, rows: Rows, number: int = 0) -> Tensor:
        """(n, c, h, w) of (n, d), the `number`-th time."""
        draw = torch.Generator().manual_seed(self.seed + 7919 * number)
        scale = 2.0 if self.guidance_scale is None else self.guidance_scale
        options: dict[str, Any] = {
            "num_inference_steps": self.steps,
            "guidance_scale": scale,
            "eta": self.eta or 0.0,
            "batch_size": self.batch,
        }
        found: Tensor = pipeline(rows, **options, generator=draw, output_type="pt").images
        return found

    def canvas(self, **more: Any) -> Canvas:
        scale, eta = 4.0 if self.guidance_scale is None else self.guidance_scale, 1.0 if self.eta is None else self.eta
        return Canvas(steps=self.steps, guidance_scale=scale, eta=eta, **more)


def draw_to(
    out: Path,
    model: Path,
    embeddings: Rows,
    drawing: Drawing,
    *,
    count: int = 1,
    encoder: Encoder | None = None,
    overwrite: bool = False,
    device: str = "cpu",
) -> dict[str, Any]:
    """`count` images of each embedding, `000000.png` and on, and a page. With `encoder` the page says how near they are."""
    check_output(out, overwrite=overwrite, sources=(model,))
    pipeline = open_pipeline(model, device)
    pipeline.checked(embeddings)
    drawn = [drawing.images(pipeline, embeddings, number) for number in range(count)]
    names = _numbered(len(embeddings), count)
    near = None if encoder is None else similarity(np.tile(embeddings, (count, 1)), encoder(torch.cat(drawn)))
    said = f"{len(embeddings) * count:,} images of {len(embeddings):,} embeddings."
    report = images_page(drawn[0], said, {f"drawn again {n}": one for n, one in enumerate(drawn[1:4], 2)}, near)
    flat = [(names[n][row], one[row]) for n, one in enumerate(drawn) for row in range(len(embeddings))]
    return _written(out, flat, report, near, model, embeddings, asdict(drawing) | {"count": count}, overwrite)


def draw_large_to(
    out: Path,
    model: Path,
    embeddings: Rows,
    drawing: Drawing,
    *,
    shape: tuple[int, int] | None,
    order: Literal["rows", "columns"] = "rows",
    encoder: Encoder | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    **canvas: Any,
) -> dict[str, Any]:
    """One large image a grid of embeddings, and a page. With `encoder` the page says how near each cell is to its embedding."""
    check_output(out, overwrite=overwrite, sources=(model,))
    pipeline = open_pipeline(model, device)
    grids = in_grids(embeddings, shape, order)
    pipeline.checked(grids.reshape(-1, grids.shape[-1]))
    drawn = []
    for number, grid in enumerate(grids):
        with step(f"image {number + 1} of {len(grids)}"):
            draw = torch.Generator().manual_seed(drawing.seed + 7919 * number)
            drawn.append(draw_large(pipeline, grid, drawing.canvas(**canvas), generator=draw))
    near = None
    if encoder is not None:
        near = similarity(grids.reshape(-1, grids.shape[-1]), encoder(torch.cat([cells(one, grids.shape[1:3]) for one in drawn])))
    (_, height, width), (rows, columns) = drawn[0].shape, grids.shape[1:3]
    said = f"{len(grids):,} images of {width} x {height} pixels, each of {rows} x {columns} embeddings."
    report = images_page(torch.stack(drawn), said, {}, near, wide=True)
    named = [(f"{number:06d}.png", one) for number, one in enumerate(drawn)]
    about = asdict(drawing) | asdict(drawing.canvas(**canvas)) | {"order": order}
    return _written(out, named, report, near, model, embeddings, about, overwrite)


def cells(image: Tensor, shape: Sequence[int]) -> Tensor:
    """(rows x columns, c, h, w) of a large image, row by row."""
    c, height, width = image.shape
    rows, columns = shape
    found = image.reshape(c, rows, height // rows, columns, width // columns)
    return found.permute(1, 3, 0, 2, 4).reshape(rows * columns, c, height // rows, width // columns)


def vary_to(
    out: Path,
    model: Path,
    examples: Examples,
    drawing: Drawing,
    *,
    count: int = 3,
    encoder: Encoder | None = None,
    overwrite: bool = False,
    device: str = "cpu",
) -> dict[str, Any]:
    """`count` variations of each image from its own embedding: `NAME-1.png` and on, `labels.csv` with the label of the image each is of."""
    check_output(out, overwrite=overwrite, sources=(model,))
    pipeline = open_pipeline(model, device)
    pipeline.checked(examples.embeddings)
    drawn = [drawing.images(pipeline, examples.embeddings, number) for number in range(count)]
    near = None if encoder is None else similarity(np.tile(examples.embeddings, (count, 1)), encoder(torch.cat(drawn)))
    said = f"{count} variations of each of {len(examples.pictures):,} images, with its label."
    real = (examples.pictures.take(range(min(len(examples.pictures), 12))) + 1) / 2
    report = images_page(drawn[0], said, {"real": real, **{f"drawn {n}": one for n, one in enumerate(drawn[1:4], 2)}}, near)
    stems = [Path(name).stem for name in examples.pictures.names]
    flat = [(f"{stem}-{number + 1}.png", drawn[number][row]) for row, stem in enumerate(stems) for number in range(count)]
    rows = None
    if examples.labels is not None:
        own = [examples.classes[place] for place in examples.labels]
        rows = [(f"{stem}-{n + 1}.png", examples.pictures.names[row], own[row]) for row, stem in enumerate(stems) for n in range(count)]
    return _written(out, flat, report, near, model, examples.embeddings, asdict(drawing) | {"count": count}, overwrite, rows)


def _written(
    out: Path,
    images: Sequence[tuple[str, Tensor]],
    report: Any,
    near: Similarity | None,
    model: Path,
    embeddings: Rows,
    parameters: Mapping[str, Any],
    overwrite: bool,
    labels: Sequence[tuple[str, str, str]] | None = None,
) -> dict[str, Any]:
    figures = {"images": len(images)} | ({} if near is None else near.figures())
    with atomic_directory(out, overwrite=overwrite, sources=(model,)) as folder:
        for name, image in images:
            as_output(image[None], "pil")[0].save(folder / name)
        if labels is not None:
            with (folder / LABELS).open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([("file", "source", "label"), *labels])
        report.save_html(folder / PAGE)
        given = Given(model, digest=_digest(embeddings))
        save(record(given, "concept decode", parameters=parameters, seed=parameters["seed"], metrics=figures), folder)
    return figures


def embed_to(out: Path, images: Pictures, encoder: Encoder) -> Rows:
    """Embeddings of images (n, d) in the order of their names, as .npy, with the names beside them. Raises `InputError`: not a .npy."""
    import json

    from regraft.output import atomic_file

    if out.suffix != ".npy":
        raise InputError(f"--out {out}: name a file that ends in .npy")
    rows = encoder((images.take(range(len(images))) + 1) / 2)
    with atomic_file(out) as part, part.open("wb") as file:
        np.save(file, rows, allow_pickle=False)
    with atomic_file(out.with_suffix(".json")) as part:
        part.write_text(json.dumps(images.names), encoding="utf-8")
    return rows


def _numbered(rows: int, count: int) -> list[list[str]]:
    """Names of images, a list a draw."""
    return [[f"{row:06d}.png" if count == 1 else f"{row:06d}-{number + 1}.png" for row in range(rows)] for number in range(count)]


def _digest(rows: Rows) -> str:
    return f"sha256:{hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()}"
