"""`regraft concept split`: a diffusion transformer that comes apart by class."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from regraft.cli import options as o
from regraft.cli.app import verb
from regraft.cli.concept.group import split

Source = Annotated[str, typer.Argument(help="Folder with a folder of images (or latents, .npy) a class, or digits.", metavar="IMAGES")]
Model = Annotated[Path, typer.Argument(help="Folder that `concept split train` wrote.", metavar="MODEL")]
Out = Annotated[Path, typer.Option("--out", help="Directory to write; appears whole or not at all.")]
Side = Annotated[int | None, typer.Option("--side", min=2, help="Pixels a side: images are cut to their middle square and scaled.")]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Steps of training.")]


@o.options
class Body:
    """Sizes and components of the transformer."""

    panel: ClassVar[str] = "Transformer"

    layers: Annotated[int, typer.Option(min=1, help="Blocks.")] = 4
    heads: Annotated[int, typer.Option(min=1, help="Attention heads.")] = 4
    width: Annotated[int, typer.Option(min=2, help="Hidden size, a multiple of --heads.")] = 96
    patch: Annotated[int, typer.Option(min=1, help="Pixels or latents a side that one token holds.")] = 2
    learn_sigma: Annotated[bool, typer.Option("--learn-sigma", help="Learn variances too, as large DiTs do.")] = False
    learngenes: Annotated[int, typer.Option(min=0, help="Components of each matrix that all classes share.")] = 48
    tailors: Annotated[int, typer.Option(min=1, help="Components of each matrix that one class has for itself.")] = 8
    ordered: Annotated[bool, typer.Option("--ordered", help="Divide components by size, not by chance.")] = False
    start: Annotated[Path | None, typer.Option("--start", help="A trained DiT to factorise; default: random weights.")] = None
    vae: Annotated[Path | None, typer.Option("--vae", help="diffusers' AutoencoderKL: images become latents.")] = None

    def job(self, *, plain: bool = False) -> Any:
        """As the job takes it."""
        from regraft.concepts.split import job

        return job.Body(**vars(self), plain=plain)


@o.options
class Learning:
    """How it is trained."""

    panel: ClassVar[str] = "Training"

    batch: Annotated[int, typer.Option(min=1, help="Images a step.")] = 64
    ema: Annotated[float, typer.Option(min=0, help="Decay of the averaged parameters, which are what is kept.")] = 0.9999
    drop: Annotated[float, typer.Option(min=0, help="Share of labels that are dropped, for guidance.")] = 0.1
    decay: Annotated[float, typer.Option(min=0, help="Weight decay of components that act.")] = 0.0
    lr: Annotated[float | None, typer.Option("--lr", help="Rate of AdamW; default 0.001, and 0.002 for classes that are put on.")] = None
    save_every: Annotated[int, typer.Option(min=1, help="Steps between states, from which a killed run goes on.")] = 200
    seed: o.Seed = 0
    device: o.Device = "cpu"

    def plan(self, steps: int, lr: float = 1e-3) -> Any:
        """As the job takes it; `lr` where the user gives none."""
        from regraft.concepts.split.training import Plan

        return Plan(**{**vars(self), "steps": steps, "lr": lr if self.lr is None else self.lr})


@o.options
class Drawing:
    """What is drawn to be shown and judged."""

    panel: ClassVar[str] = "Drawing"

    each: Annotated[int, typer.Option(min=1, help="Images a class.")] = 16
    draw_steps: Annotated[int, typer.Option(min=1, help="DDIM steps.")] = 20
    guidance: Annotated[float, typer.Option(min=1, help="Above 1: away from no class.")] = 1.0

    def sampling(self, seed: int = 0) -> Any:
        """As the job takes it."""
        from regraft.concepts.split.images.drawing import Sampling

        return Sampling(self.each, self.draw_steps, self.guidance, seed)


@o.options
class Trial:
    """How new classes are learned, to compare."""

    panel: ClassVar[str] = "Comparison"

    pretrain: Annotated[int, typer.Option("--pretrain", min=1, help="Steps of each backbone.")] = 2500
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of each method on the new classes.")] = 100
    shots: Annotated[int, typer.Option(min=1, help="Images of each new class; the others judge.")] = 60
    seeds: Annotated[int, typer.Option(min=1, help="How many times each method learns.")] = 3

    def job(self) -> Any:
        """As the job takes it."""
        from regraft.concepts.split import compare

        return compare.Trial(self.shots, self.steps, self.seeds)


@verb(group=split)
def train(
    source: Source,
    body: Body,
    learning: Learning,
    drawing: Drawing,
    *,
    classes: Annotated[str | None, typer.Option("--classes", help="Some of them: 0-5, or cat,dog.")] = None,
    steps: Steps = 2500,
    plain: Annotated[bool, typer.Option("--plain", help="No components: an ordinary DiT, for comparison.")] = False,
    held_out: Annotated[float, typer.Option(min=0, max=0.9, help="Share of images that judge what is drawn.")] = 0.2,
    side: Side = None,
    out: Out,
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Train a DiT whose matrices hold what all classes share and what is each one's own; the same call goes on after a kill."""
    from regraft.concepts.split import job

    given = {"body": body.job(plain=plain), "plan": learning.plan(steps), "sampling": drawing.sampling(learning.seed)}
    return _told(job.train(source, out, classes=classes, side=side, held_out=held_out, overwrite=overwrite, **given), out, json_output)


@verb(group=split)
def extract(
    model: Model,
    drawing: Drawing,
    *,
    classes: Annotated[str, typer.Option("--classes", help="Classes to keep: 0,3, or cat.")],
    dense: Annotated[bool, typer.Option("--dense", help="One class as an ordinary DiT that plain diffusers loads.")] = False,
    out: Out,
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Cut a smaller model out of MODEL for the classes you need, without training."""
    from regraft.concepts.split import job

    done = job.extract(model, out, classes=classes, dense=dense, sampling=drawing.sampling(), overwrite=overwrite)
    return _told(done, out, json_output)


@verb("add-class", group=split)
def add_class(
    model: Model,
    learning: Learning,
    drawing: Drawing,
    *,
    images: Annotated[str, typer.Option("--images", help="Folder with a folder of images a new class.")],
    classes: Annotated[str | None, typer.Option("--classes", help="Some of them.")] = None,
    initial: Annotated[str, typer.Option("--initial", help="New tailors begin random, or as those of the nearest class.")] = "random",
    steps: Steps = 300,
    held_out: Annotated[float, typer.Option(min=0, max=0.9, help="Share of images that judge what is drawn.")] = 0.2,
    out: Out,
    overwrite: o.Overwrite = False,
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Put classes on: fresh tailors learn, what classes share is frozen, and old classes draw what they drew."""
    from regraft.concepts.split import job

    given = {"plan": learning.plan(steps, 2e-3), "sampling": drawing.sampling(learning.seed), "initial": initial}
    return _told(job.add_class(model, images, out, classes=classes, held_out=held_out, overwrite=overwrite, **given), out, json_output)


@verb(group=split)
def compare(
    source: Source,
    body: Body,
    learning: Learning,
    drawing: Drawing,
    trial: Trial,
    *,
    classes: Annotated[str, typer.Option("--classes", help="What both backbones learn first: 0-5, or cat,dog.")],
    new: Annotated[str, typer.Option("--new", help="Classes to learn then.")],
    methods: Annotated[str, typer.Option("--methods", help="Names separated by commas, or all.")] = "all",
    settings: Annotated[list[str] | None, typer.Option("--set", help="A hyper-parameter, method.field=value. Repeatable.")] = None,
    side: Side = None,
    out: Annotated[Path, typer.Option("--out", help="Directory for backbones, the page and the JSON; the same call resumes.")],
    json_output: o.Json = False,
) -> dict[str, Any]:
    """Learn new classes with KIND, LoRA, PiSSA, SVDiff and others beside full fine-tuning, as many parameters each."""
    from regraft.concepts.split import compare as run
    from regraft.method.settings_text import by_method

    names = [name.strip() for name in methods.split(",") if name.strip()]
    given = {"body": body.job(), "plan": learning.plan(trial.pretrain), "sampling": drawing.sampling(learning.seed), "side": side}
    done = run.compare(source, out, classes=classes, new=new, methods=names, settings=by_method(settings or []), trial=trial.job(), **given)
    if not json_output:
        done.report.print()
    return {"rows": done.rows}


def _told(done: Any, out: Path, json_output: bool) -> dict[str, Any]:
    if not json_output:
        done.report.print()
        print(f"\nmodel:  {out}\nreport: {out / 'report.html'}")
    figures: dict[str, Any] = done.figures
    return figures
