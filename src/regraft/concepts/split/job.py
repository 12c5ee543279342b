"""Train a transformer that comes apart by class, take classes out, put classes on.

Enters: pictures by class, or a folder that `train` wrote. Leaves: a folder that `load` opens and diffusers draws with, and a page.
"""

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTTransformer2DModel

from regraft import provenance
from regraft.concepts.split import assembly
from regraft.concepts.split.images.drawing import Sampling, draw
from regraft.concepts.split.images.judge import Judge
from regraft.concepts.split.images.pictures import Pictures, open_pictures
from regraft.concepts.split.layers.gated import PATTERNS, matching
from regraft.concepts.split.layers.partition import Partition
from regraft.concepts.split.learner import Backbones, ClassLearner
from regraft.concepts.split.model import ABOUT, Shape, Split, fresh, load, save, scheduler_for, split_of
from regraft.concepts.split.report import costs, parts_of, report_of_extraction, report_of_training
from regraft.concepts.split.training import Plan, fit
from regraft.errors import CheckpointError, InputError, ParameterError
from regraft.meter import metered
from regraft.method import resolve
from regraft.output import atomic_directory, check_output
from regraft.progress import step
from regraft.report import Report

PAGE = "report.html"


@dataclass(frozen=True)
class Body:
    """What is trained: sizes, components, where it begins.

    Attributes
    ----------
    plain : no components at all, for comparison. ordered : components are divided in the order of their singular values, not by chance.
        start : a trained plain DiT whose weights are factorised; by default random ones are. vae : diffusers' AutoencoderKL that turns
        images into latents.
    """

    layers: int = 4
    heads: int = 4
    width: int = 96
    patch: int = 2
    learn_sigma: bool = False
    learngenes: int = 48
    tailors: int = 8
    plain: bool = False
    ordered: bool = False
    start: Path | None = None
    vae: Path | None = None
    patterns: tuple[str, ...] = PATTERNS


@dataclass(frozen=True)
class Done:
    """The model, the `report`, and `figures` as `--json` prints them."""

    split: Split
    report: Report
    figures: dict[str, Any] = field(default_factory=dict)


def train(
    source: str,
    out: Path,
    *,
    classes: str | None = None,
    side: int | None = None,
    body: Body | None = None,
    plan: Plan | None = None,
    held_out: float = 0.2,
    sampling: Sampling | None = None,
    overwrite: bool = False,
) -> Done:
    """Train on `source` (a folder a class, or digits) and write all into `out`; `held_out` of each class judges what is drawn.

    The state of training lies beside `out` until it is there: the same call goes on after a kill. Raises `InputError`: bad pictures,
    settings that do not fit, or `out`; a loss that is not finite.
    """
    body, plan, sampling = body or Body(), plan or Plan(), sampling or Sampling()
    check_output(out, overwrite=overwrite)
    vae = None if body.vae is None else open_vae(body.vae)
    pictures = encoded(open_pictures(source, classes, side=side), vae)
    split = begun(pictures, body, plan.seed, vae)
    return _learned(split, split, pictures, out, plan, held_out, sampling, overwrite, verb="concept split train", origin=source, body=body)


def begun(pictures: Pictures, body: Body, seed: int, vae: Any = None) -> Split:
    """A model for `pictures` that is not trained yet."""
    learngenes = None if body.plain else body.learngenes
    if body.start is None:
        shape = Shape(
            pictures.images.shape[-1], pictures.images.shape[1], body.layers, body.heads, body.width, body.patch, body.learn_sigma
        )
        how: dict[str, Any] = {
            "learngenes": learngenes,
            "tailors": body.tailors,
            "patterns": body.patterns,
            "shuffled": not body.ordered,
            "seed": seed,
        }
        found = fresh(shape, pictures.names, **how, vae=vae)
        return dataclasses.replace(found, scheduler=scheduler_for(pixels=not pictures.latent))
    old = open_plain(body.start, body.patterns)
    check_fits(old, pictures, body.start)
    like = [old.names.index(name) if name in old.names else None for name in pictures.names]
    new = assembly.renewed(old, pictures.names, like=like, seed=seed)
    partition = None if learngenes is None else Partition.by_class(learngenes, len(pictures.names), body.tailors)
    scheduler = old.scheduler or scheduler_for(pixels=not pictures.latent)
    return split_of(dataclasses.replace(new, scheduler=scheduler, vae=vae), partition, shuffled=not body.ordered, seed=seed)


def open_plain(folder: Path, patterns: tuple[str, ...] = PATTERNS) -> Split:
    """A plain DiT: one that `train --plain` wrote, or diffusers' (a pipeline, or a transformer alone: no scheduler then).

    Raises `CheckpointError`.
    """
    if (folder / ABOUT).is_file():
        found = load(folder)
        if found.gate is not None:
            raise CheckpointError(f"{folder}: is factorised already: give a plain model")
        return dataclasses.replace(found, patterns=patterns)
    place = folder / "transformer" if (folder / "transformer").is_dir() else folder
    try:
        transformer = DiTTransformer2DModel.from_pretrained(place)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder}: not a DiT of diffusers ({str(error).splitlines()[0]})") from None
    names = tuple(str(one) for one in range(transformer.config.num_embeds_ada_norm))
    matching(transformer, patterns)
    noise = folder / "scheduler"
    return Split(transformer, None, names, patterns, DDIMScheduler.from_pretrained(noise) if noise.is_dir() else None)


def open_vae(folder: Path) -> Any:
    try:
        return AutoencoderKL.from_pretrained(folder / "vae" if (folder / "vae").is_dir() else folder).eval()
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder}: not an AutoencoderKL of diffusers ({str(error).splitlines()[0]})") from None


@torch.no_grad()
def encoded(pictures: Pictures, vae: Any) -> Pictures:
    """Latents of images: the encoder's means times its scale. Without a VAE as they are."""
    if vae is None:
        return pictures
    if pictures.latent or pictures.images.shape[1] != vae.config.in_channels:
        what = "latents already" if pictures.latent else f"images of {pictures.images.shape[1]} channels, it takes {vae.config.in_channels}"
        raise InputError(f"--vae: {pictures.source} holds {what}")
    rows = [vae.encode(part).latent_dist.mean * vae.config.scaling_factor for part in torch.split(pictures.images, 16)]
    return dataclasses.replace(pictures, images=torch.cat(rows), latent=True)


def extract(
    model: Path, out: Path, *, classes: str, dense: bool = False, sampling: Sampling | None = None, overwrite: bool = False
) -> Done:
    """The part of `model` that draws `classes`, without training. Raises `InputError`: a class that it has not, `dense` for several."""
    from regraft.concepts.split.images.pictures import chosen

    check_output(out, overwrite=overwrite, sources=[model])
    whole = load(model)
    names = chosen(whole.names, classes)
    if dense and len(names) > 1:
        raise ParameterError(f"--dense: one class has one dense matrix, {len(names)} classes have not: give one, or leave --dense out")
    part = assembly.dense(whole, names[0]) if dense else assembly.extract(whole, names)
    with step("drawing"):
        images = draw(part, sampling or Sampling(each=8))
    report = report_of_extraction(whole, part, images, dense=dense)
    figures = {"out": str(out), "classes": names, "dense": dense, "costs": costs({"before": whole, "after": part})}
    _write(part, out, report, figures, model, "concept split extract", {"classes": names, "dense": dense}, overwrite)
    return Done(part, report, figures)


def add_class(
    model: Path,
    images: str,
    out: Path,
    *,
    classes: str | None = None,
    initial: str = "random",
    plan: Plan | None = None,
    held_out: float = 0.2,
    sampling: Sampling | None = None,
    overwrite: bool = False,
) -> Done:
    """`model` with the classes of the folder `images` too: fresh tailors learn, all else is frozen, old classes draw what they drew.

    Raises `InputError`: images of another size, a name that it has already.
    """
    check_output(out, overwrite=overwrite, sources=[model])
    whole, plan = load(model), plan or Plan(steps=300, lr=2e-3)
    if whole.partition is None:
        raise ParameterError(f"{model}: a plain model has no learngenes: give one that `regraft concept split train` wrote")
    side = whole.transformer.config.sample_size
    if whole.vae is not None:
        side *= 2 ** (len(whole.vae.config.block_out_channels) - 1)
    pictures = encoded(open_pictures(images, classes, side=None if images == "digits" else side), whole.vae)
    check_fits(whole, pictures, model)
    if twice := set(whole.names) & set(pictures.names):
        raise ParameterError(f"class {sorted(twice)[0]!r} is in {model} already: rename the folder of the new one")
    size = whole.partition.families[0][1]
    method: ClassLearner = resolve("class-splitter", "kind", {"tailors": size, "initial": initial})
    ready = method.begin(Backbones(whole, whole), pictures, 0, plan.seed)
    plan = dataclasses.replace(plan, drop=0.0)  # no class at all is learngenes alone, which do not learn
    return _learned(
        ready.split,
        whole,
        pictures,
        out,
        plan,
        held_out,
        sampling or Sampling(),
        overwrite,
        verb="concept split add-class",
        origin=str(model),
    )


def check_fits(split: Split, pictures: Pictures, folder: Path) -> None:
    """Raise `InputError` where images are not of the size that a model draws."""
    config = split.transformer.config
    wanted = (config.in_channels, config.sample_size, config.sample_size)
    if tuple(pictures.images.shape[1:]) != wanted:
        raise InputError(
            f"{pictures.source}: {tuple(pictures.images.shape[1:])} an image, {folder} draws {wanted}: give images of that size"
        )


def _learned(
    split: Split,
    whole: Split,
    pictures: Pictures,
    out: Path,
    plan: Plan,
    held_out: float,
    sampling: Sampling,
    overwrite: bool,
    *,
    verb: str,
    origin: str,
    body: Body | None = None,
) -> Done:
    """Train `split`, put it together with `whole` where that is another, draw, judge, write."""
    learned, real = pictures.divided(1 - held_out, plan.seed)
    if not len(learned.images):
        raise InputError(f"{pictures.source}: no image left to learn from: give more, or a lower --held-out")
    state = out.expanduser().resolve().with_name(f"{out.name}.training")
    with metered() as cost:
        curve = fit(split, learned.images, learned.labels, plan, state=state)
    judge = _judge(real, learned)
    with step("drawing"):
        rows, images = parts_of(split, judge, sampling)
    split.transformer.to("cpu")
    report = report_of_training(split, rows, images, curve, judge)
    result = split if split is whole else assembly.merged(whole, split)
    if result is not split:
        report.add_table("Size and cost, all classes", costs({"before": whole, "after": result}))
    facts = {"judge": None if judge is None else judge.accuracy, "seconds": cost.seconds, "images": len(learned.images)}
    figures = {
        "out": str(out),
        "classes": list(result.names),
        "parts": rows,
        "costs": costs({"model": result}),
        "loss": curve[-1][1] if curve else None,
        **facts,
    }
    settings = {"plan": plan, **({} if body is None else {"body": body})}
    _write(result, out, report, figures, Path(origin), verb, settings, overwrite, digest=pictures.sha256, seed=plan.seed)
    shutil.rmtree(state, ignore_errors=True)
    return Done(result, report, figures)


def _judge(real: Pictures, learned: Pictures) -> Judge | None:
    """None where there are too few images or classes to judge by."""
    if real.latent or len(real.names) < 2:
        return None
    try:
        return Judge(real, learned)
    except InputError:
        return None


def _write(
    split: Split,
    out: Path,
    report: Report,
    figures: dict[str, Any],
    origin: Path,
    verb: str,
    settings: dict[str, Any],
    overwrite: bool,
    *,
    digest: str | None = None,
    seed: int | None = None,
) -> None:
    sources: Sequence[Path] = [origin] if origin.exists() else []
    if origin.is_dir() and (origin / provenance.FILE).is_file():
        given = provenance.Given(origin, f"sha256:{provenance.sha256(origin / provenance.FILE)}")
    else:
        given = provenance.Given(origin, f"sha256:{digest}")
    with atomic_directory(out, overwrite=overwrite, sources=sources) as folder:
        weights = save(split, folder)
        report.save_html(folder / PAGE)
        corpus = None if digest is None else {"sha256": digest}
        written = provenance.record(given, verb, method="kind", parameters=settings, seed=seed, corpus=corpus, metrics=figures)
        provenance.save(written, folder, weights)
