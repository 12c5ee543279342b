"""`regraft concept decode`: images of embeddings. Without a verb it is `images`."""

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from typer.core import TyperGroup

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.concept.group import decode as group
from regraft.cli.concept.options import one_of


class DecodeCommands(TyperGroup):
    """What begins with no verb is `images`, so that embeddings can stand where a verb would."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["images", *args]
        return super().parse_args(ctx, args)


group.info.cls = DecodeCommands

Images = Annotated[Path, typer.Argument(help="Folder of images; they count in the order of their names.", metavar="IMAGES")]
Embeddings = Annotated[Path, typer.Argument(help="An .npy array, a row an embedding, in the order of the images.", metavar="EMBEDDINGS")]
ModelDir = Annotated[Path, typer.Option("--model", help="Directory that regraft concept decode train wrote.")]
ImageSize = Annotated[
    int | None, typer.Option("--image-size", help="Cut the middle square of each image and scale it to this side.", min=4)
]
Regions = Annotated[
    Path | None, typer.Option("--regions", help="Embeddings of what surrounds each image: a second token. Zero rows where there is none.")
]
EncoderDir = Annotated[
    str | None,
    typer.Option("--encoder", help="The encoder as a transformers checkpoint: says how near what was drawn comes to what was asked."),
]
Settings = Annotated[list[str] | None, typer.Option("--set", help="A hyper-parameter, field=value, such as channels=[64,128]. Repeatable.")]
Size = Annotated[str, typer.Option("--size", help="Of the U-Net and its training: paper, small or tiny; --set changes single fields.")]


@o.options
class Given:
    """What is known of the images beside their embeddings."""

    panel: ClassVar[str] = "Images"

    regions: Regions = None
    labels: Annotated[Path | None, typer.Option("--labels", help="CSV with a header: the image's file first, its label last.")] = None
    image_size: ImageSize = None


@o.options
class Network:
    """What is trained."""

    panel: ClassVar[str] = "Network"

    size: Size = "paper"
    settings: Settings = None
    vae: Annotated[Path | None, typer.Option("--vae", help="A diffusers autoencoder to work on its latents. Default: pixels.")] = None
    start: Annotated[Path | None, typer.Option("--start", help="A U-Net (UNet2DConditionModel) to start from.")] = None


@o.options
class Judging:
    """How decoders are judged."""

    panel: ClassVar[str] = "Judging"

    draw_steps: Annotated[int, typer.Option("--draw-steps", help="Steps of sampling.", min=1)] = 50
    seeds: Annotated[int, typer.Option("--seeds", help="How many times each is trained.", min=1)] = 1
    held_out: Annotated[float, typer.Option("--held-out", help="Share of images that is only judged by.", min=0.01, max=0.9)] = 0.2
    encoder: EncoderDir = None


@o.options
class Sampling:
    """How images are drawn."""

    panel: ClassVar[str] = "Drawing"

    steps: Annotated[int, typer.Option("--steps", help="Steps of sampling.", min=1)] = 50
    guidance: Annotated[
        float | None, typer.Option("--guidance", help="Scale s of e_null + s (e_cond - e_null). Default: 2, and 4 with --large.")
    ] = None
    guidance_weight: Annotated[
        float | None, typer.Option("--guidance-weight", help="The same as w of (1 + w) e_cond - w e_null; s = 1 + w.")
    ] = None
    eta: Annotated[float | None, typer.Option("--eta", help="Noise in each step. Default: 0, and 1 with --large.", min=0, max=1)] = None
    batch: Annotated[int, typer.Option("--batch", help="Images at a time.", min=1)] = 64
    seed: o.Seed = 0

    def drawing(self) -> Any:
        from regraft.concepts.decode.job import Drawing
        from regraft.errors import ParameterError

        if self.guidance is not None and self.guidance_weight is not None:
            raise ParameterError("--guidance and --guidance-weight say the same thing in two ways: give one of them")
        scale = self.guidance if self.guidance_weight is None else 1 + self.guidance_weight
        return Drawing(self.steps, scale, self.eta, self.seed, self.batch)


@o.options
class Large:
    """Large images from grids of embeddings."""

    panel: ClassVar[str] = "Large images"

    large: Annotated[str | None, typer.Option("--large", help="Put every ROWSxCOLUMNS embeddings together to one image.")] = None
    order: Annotated[str, typer.Option("--order", help="How the embeddings of a grid stand: rows or columns.")] = "rows"
    stride: Annotated[int | None, typer.Option("--stride", help="Latents between windows. Default: a quarter of a window.", min=1)] = None
    average: Annotated[str, typer.Option("--average", help="What windows agree on: x0 (the clean image) or update (MultiDiffusion).")] = (
        "x0"
    )
    windows: Annotated[int, typer.Option("--windows", help="Windows at a time: memory against speed.", min=1)] = 8
    compat: Annotated[str | None, typer.Option("--compat", help="released: the noise of a single step, as in the authors' code.")] = None


@o.options
class Training:
    """How the model is trained."""

    panel: ClassVar[str] = "Training"

    steps: Annotated[int, typer.Option("--steps", help="Steps of training.", min=1)] = 10_000
    batch: Annotated[int, typer.Option("--batch", help="Images a step.", min=1)] = 100
    precision: Annotated[str, typer.Option("--precision", help="no, fp16 or bf16.")] = "no"
    seed: o.Seed = 0


def encoder_of(folder: str | None, device: str) -> Any:
    from regraft.concepts.decode.judging import open_encoder

    return None if folder is None else open_encoder(folder, device)


def examples_of(images: Path, embeddings: Path, given: Given, color: bool = False) -> Any:
    from regraft.concepts.decode.decoder import Examples
    from regraft.concepts.decode.pictures import Pictures, read_embeddings, read_labels

    pictures = Pictures.read(images, size=given.image_size, color=color)
    around = None if given.regions is None else read_embeddings(given.regions, len(pictures))
    named = None if given.labels is None else read_labels(given.labels, pictures.names)
    return Examples.of(pictures, read_embeddings(embeddings, len(pictures)), regions=around, labels=named)


def settings_of(size: str, settings: list[str] | None) -> dict[str, Any]:
    from regraft.concepts.decode.decoder import SIZES
    from regraft.errors import ParameterError
    from regraft.method.settings_text import parse_settings

    if size not in SIZES:
        raise ParameterError(f"--size {size}: choose {', '.join(SIZES)}")
    return {**SIZES[size], **parse_settings(settings or [])}


def grid_shape(text: str, option: str = "--large") -> tuple[int, int]:
    from regraft.errors import ParameterError

    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text.strip().lower())
    if found is None:
        raise ParameterError(f"{option} {text}: write it as ROWSxCOLUMNS, such as 4x4")
    return int(found[1]), int(found[2])


@verb(group=group)
def embed(
    images: Images,
    *,
    encoder: Annotated[str, typer.Option("--encoder", help="A transformers checkpoint of an image encoder.")],
    out: Annotated[Path, typer.Option("--out", help="The .npy file to write; the images' names go beside it.")],
    image_size: ImageSize = None,
    device: o.Device = "cpu",
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Embed a folder of images."""
    from regraft.concepts.decode.job import embed_to
    from regraft.concepts.decode.pictures import Pictures

    rows = embed_to(out, Pictures.read(images, size=image_size), encoder_of(encoder, device))
    if not json_output:
        print(f"{len(rows):,} embeddings of {rows.shape[1]} numbers\n{out}")
    return {"images": len(rows), "dim": int(rows.shape[1])}


@verb(group=group)
def train(
    images: Images,
    embeddings: Embeddings,
    *,
    out: Annotated[Path, typer.Option("--out", help="Directory for the pipeline. A stopped run is kept beside it; the same call goes on.")],
    method: Annotated[
        str, typer.Option("--method", help="What images are drawn from; regraft methods lists them.")
    ] = "representation-guided-diffusion",
    given: Given,
    network: Network,
    training: Training,
    device: o.Device = "cpu",
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Train a diffusion model on images and their embeddings."""
    from regraft.concepts.decode.decoder import Plan
    from regraft.concepts.decode.job import train_to
    from regraft.method import resolve

    one_of("--precision", training.precision, ("no", "fp16", "bf16"))
    decoder = resolve("embedding-decoder", method, settings_of(network.size, network.settings))
    examples = examples_of(images, embeddings, given, color=network.vae is not None)
    plan = Plan(training.steps, training.batch, training.seed, training.precision)
    parts = {"vae": network.vae, "start": network.start}
    figures = train_to(out, decoder, examples, plan, source=images, **parts, device=device, overwrite=overwrite)
    if not json_output:
        for note in examples.pictures.notes:
            print(note)
        print(f"{figures['parameters']:,} parameters, error of the noise {figures['loss']:.3f} at the end\n{out}")
    return figures


@verb(group=group, name="images")
def draw(
    embeddings: Embeddings,
    *,
    model: ModelDir,
    out: Annotated[Path, typer.Option("--out", help="Folder for the images and a page.")],
    regions: Regions = None,
    count: Annotated[int, typer.Option("--count", help="Images an embedding.", min=1)] = 1,
    encoder: EncoderDir = None,
    sampling: Sampling,
    large: Large,
    device: o.Device = "cpu",
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Draw images of embeddings; with --large, one image of each grid of them."""
    import numpy as np

    from regraft.concepts.decode.job import draw_large_to, draw_to
    from regraft.concepts.decode.pictures import read_embeddings

    rows = read_embeddings(embeddings)
    if regions is not None:
        rows = np.concatenate([rows, read_embeddings(regions, len(rows))], -1)
    drawing, judge = sampling.drawing(), encoder_of(encoder, device)
    for option, value, known in (
        ("--order", large.order, ("rows", "columns")),
        ("--average", large.average, ("x0", "update")),
        ("--compat", large.compat, ("released",)),
    ):
        one_of(option, value, known)
    if large.large is None and rows.ndim == 2:
        figures = draw_to(out, model, rows, drawing, count=count, encoder=judge, overwrite=overwrite, device=device)
    else:
        shape = None if large.large is None else grid_shape(large.large)
        how: dict[str, Any] = {"stride": large.stride, "average": large.average, "compat": large.compat, "batch": large.windows}
        order: Any = large.order
        figures = draw_large_to(
            out, model, rows, drawing, shape=shape, order=order, encoder=judge, overwrite=overwrite, device=device, **how
        )
    if not json_output:
        print(said(figures) + f"\n{out}")
    return figures


@verb(group=group)
def vary(
    images: Images,
    embeddings: Embeddings,
    *,
    model: ModelDir,
    out: Annotated[Path, typer.Option("--out", help="Folder for the variations, labels.csv and a page.")],
    given: Given,
    count: Annotated[int, typer.Option("--count", help="Variations an image.", min=1)] = 3,
    encoder: EncoderDir = None,
    sampling: Sampling,
    device: o.Device = "cpu",
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Draw variations of images from their own embeddings, with their labels: more examples for a classifier."""
    from regraft.concepts.decode.job import vary_to

    examples = examples_of(images, embeddings, given)
    how: dict[str, Any] = {"count": count, "encoder": encoder_of(encoder, device), "overwrite": overwrite, "device": device}
    figures = vary_to(out, model, examples, sampling.drawing(), **how)
    if not json_output:
        print(said(figures) + f"\n{out}")
    return figures


@verb(group=group)
def source(
    embeddings: Annotated[Path, typer.Argument(help="An .npy array: (n, d), or grids (n, rows, columns, d).", metavar="EMBEDDINGS")],
    *,
    out: Annotated[Path, typer.Option("--out", help="Directory for the source.")],
    labels: Annotated[Path | None, typer.Option("--labels", help="A label a line, one an embedding or grid.")] = None,
    features: Annotated[Path | None, typer.Option("--features", help="An .npy array instead: features of a text, a row a grid.")] = None,
    grid: Annotated[str | None, typer.Option("--grid", help="Put every ROWSxCOLUMNS embeddings together to one grid.")] = None,
    steps: Annotated[int, typer.Option("--steps", help="Steps of training, of grids.", min=1)] = 1000,
    seed: o.Seed = 0,
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Learn what embeddings of a class, or grids of a class or a text, look like, to draw new ones."""
    from regraft.concepts.decode.source_job import learn_source

    shape = None if grid is None else grid_shape(grid, "--grid")
    figures = learn_source(out, embeddings, labels=labels, features=features, shape=shape, steps=steps, seed=seed, overwrite=overwrite)
    if not json_output:
        print(f"{figures['kind']}, of {figures['examples']:,} examples\n{out}")
    return figures


@verb(group=group)
def sample(
    folder: Annotated[Path, typer.Argument(help="Directory that regraft concept decode source wrote.", metavar="SOURCE")],
    *,
    out: Annotated[Path, typer.Option("--out", help="The .npy file to write.")],
    label: Annotated[str | None, typer.Option("--label", help="Class to draw.")] = None,
    features: Annotated[Path | None, typer.Option("--features", help="An .npy array: a row a grid to draw.")] = None,
    count: Annotated[int, typer.Option("--count", help="How many, of a class.", min=1)] = 1,
    guidance: Annotated[float, typer.Option("--guidance", help="Scale of guidance, of grids.")] = 1.0,
    seed: o.Seed = 0,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Draw embeddings, or grids of them, of a class or a text, for `regraft concept decode images`."""
    from regraft.concepts.decode.source_job import sample_source

    figures = sample_source(folder, out, label=label, features=features, count=count, guidance=guidance, seed=seed)
    if not json_output:
        print(f"shape {figures['shape']}\n{out}")
    return figures


@verb(group=group)
def judge(
    embeddings: Annotated[Path, typer.Argument(help="What was asked for, .npy.", metavar="EMBEDDINGS")],
    again: Annotated[Path, typer.Argument(help="Embeddings of what was drawn, by the same encoder.", metavar="AGAIN")],
    *,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Say how near embeddings of drawn images are to those that were asked for."""
    from regraft.concepts.decode.judging import similarity
    from regraft.concepts.decode.pictures import read_embeddings

    asked, found = read_embeddings(embeddings), read_embeddings(again)
    figures = similarity(asked.reshape(-1, asked.shape[-1]), found.reshape(-1, found.shape[-1])).figures()
    if not json_output:
        print(said({"images": len(found), **figures}))
    return figures


@verb(group=group)
def compare(
    images: Images,
    embeddings: Embeddings,
    *,
    methods: Annotated[str, typer.Option("--methods", help="Names separated by commas, or all that the examples allow.")] = "all",
    given: Given,
    size: Size = "small",
    settings: Annotated[list[str] | None, typer.Option("--set", help="field=value of all methods. Repeatable.")] = None,
    training: Training,
    judging: Judging,
    out: Annotated[Path | None, typer.Option("--out", help="Directory for the page and the JSON; the same call resumes.")] = None,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Train decoders beside a model without a condition, and judge what they draw for held-out images."""
    from regraft.concepts.decode.compare import compare as run
    from regraft.concepts.decode.decoder import Plan
    from regraft.concepts.decode.job import Drawing

    one_of("--precision", training.precision, ("no", "fp16", "bf16"))
    done = run(
        examples_of(images, embeddings, given),
        methods=[name.strip() for name in methods.split(",") if name.strip()],
        shared=settings_of(size, settings),
        plan=Plan(training.steps, training.batch, training.seed, training.precision),
        seeds=judging.seeds,
        held_out=judging.held_out,
        drawing=Drawing(judging.draw_steps),
        encoder=encoder_of(judging.encoder, "cpu"),
        out=out,
    )
    if not json_output:
        done.report.print()
    return {"rows": done.rows}


def said(figures: dict[str, Any]) -> str:
    if "cosine" not in figures:
        return f"{figures['images']:,} images"
    return (
        f"{figures['images']:,} images; cosine with what was asked for {figures['cosine']:.3f} "
        f"(with another's {figures['cosine_shuffled']:.3f}), {figures['retrieved']:.0%} nearest to their own"
    )
