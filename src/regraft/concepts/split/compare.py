"""Ways to learn new classes beside full fine-tuning: same backbones, images, steps, and as many parameters where a method can choose.

Enters: pictures, the classes that both backbones learn first, the new ones. Leaves: a row a method, with the paired interval of how far
it is behind, over the same drawn images; backbones and rows are kept, so the same call resumes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from regraft.comparison import Arm, Bench, Kept, Outcome, arms_of, check_out, ranked, run, save
from regraft.concepts.split.images.drawing import Sampling, draw
from regraft.concepts.split.images.judge import Judge
from regraft.concepts.split.images.pictures import Pictures, open_pictures
from regraft.concepts.split.job import Body, begun
from regraft.concepts.split.layers.cost import factor_parameters
from regraft.concepts.split.learner import Backbones, ClassLearner, shapes
from regraft.concepts.split.model import load
from regraft.concepts.split.model import save as save_split
from regraft.concepts.split.report import RIGHT, report_of_comparison
from regraft.concepts.split.training import Plan, fit
from regraft.errors import InputError, ParameterError
from regraft.evaluation.paired import Sample
from regraft.meter import metered
from regraft.output import atomic_directory
from regraft.progress import step
from regraft.report import Report

ROWS, REFERENCE, SHOWN = "rows.jsonl", "full", 5


@dataclass(frozen=True)
class Trial:
    """`shots` images of each new class, `steps` on them, `seeds` times; as many parameters as `body.tailors` components a class have."""

    shots: int = 60
    steps: int = 100
    seeds: int = 3


class TransferBench(Bench):
    """Two backbones, new classes, each arm with each seed."""

    unit, metric, reference = "methods", RIGHT, REFERENCE

    def __init__(
        self, backbones: Backbones, pictures: Pictures, plain: ClassLearner, given: tuple[Trial, Body, Plan, Sampling], out: Path
    ) -> None:
        self.backbones, self.pictures, self.plain, self.out = backbones, pictures, plain, out
        self.trial, self.body, self.plan, self.sampling = given
        self.few, self.others = pictures.divided(self.trial.shots, self.plan.seed)
        self.judge = Judge(self.others, self.few)
        self.budget = factor_parameters(shapes(backbones.plain), self.body.tailors * len(pictures.names))

    def fingerprint(self, *, trained: bool) -> str:
        about = [str(self.trial), str(self.body), str(self.plan), str(self.sampling), str(self.plain), self.pictures.sha256]
        return hashlib.sha256(json.dumps([*about, self.backbones.plain.names]).encode()).hexdigest()

    def baseline(self) -> Outcome:
        return self.measure(Arm(self.reference, self.plain))

    def measure(self, arm: Arm) -> Outcome:
        outcome = Outcome({"method": arm.name, RIGHT.name: None, "error": None})
        right, distances, few = [], [], self.few
        with metered() as cost:
            for seed in range(self.plan.seed, self.plan.seed + self.trial.seeds):
                with step(f"{arm.name}, seed {seed}"):
                    ready = arm.method.begin(self.backbones, few, self.budget, seed)
                    plan = replace(self.plan, steps=self.trial.steps, lr=arm.method.lr, drop=0.0, seed=seed)
                    curve = fit(ready.split, few.images, few.labels, plan, rates=ready.rates, title=arm.name)
                    drawn = draw(ready.split, replace(self.sampling, seed=seed))
                right.append(self.judge.right(drawn))
                distances.append(self.judge.distances(drawn).mean())
                if not outcome.curve:
                    outcome.curve = curve
                    save_file({"images": drawn[:, :SHOWN].contiguous()}, self.sheet(arm.name))
        scores = np.stack(right)
        outcome.sample = Sample(scores, np.ones_like(scores))
        outcome.row |= {RIGHT.name: outcome.sample.value, "distance": float(np.mean(distances)), "trainable": ready.trainable}
        outcome.row |= {"seconds": cost.seconds / self.trial.seeds, "peak_mb": cost.peak_mb}
        return outcome

    def sheet(self, name: str) -> Path:
        return self.out / f"drawn-{name}.safetensors"


@dataclass(frozen=True)
class Compared:
    """`rows` as `--json` prints them, full fine-tuning first, then the best; the report that shows them."""

    rows: list[dict[str, Any]]
    report: Report


def compare(
    source: str,
    out: Path,
    *,
    classes: str,
    new: str,
    methods: Sequence[str] = ("all",),
    settings: Mapping[str, Mapping[str, Any]] = {},
    side: int | None = None,
    body: Body | None = None,
    plan: Plan | None = None,
    trial: Trial | None = None,
    sampling: Sampling | None = None,
) -> Compared:
    """Train a plain and a gated backbone on `classes`, then learn `new` with every method of `methods` ("all") beside full fine-tuning.

    Raises `ParameterError`: an unknown method, settings of one that is not compared; `InputError`: bad pictures, too few to judge by.
    """
    body, plan, trial, sampling = body or Body(), plan or Plan(), trial or Trial(), sampling or Sampling(each=48)
    check_out(out, [Path(source)] if Path(source).exists() else [])
    plain, arms = arms_of("class-splitter", methods, settings, REFERENCE)
    first, second = open_pictures(source, classes, side=side), open_pictures(source, new, side=side)
    if both := set(first.names) & set(second.names):
        raise InputError(f"class {sorted(both)[0]!r} is among --classes and --new: a new class is one that was not learned")
    if first.latent or body.vae or body.start:
        raise InputError("a comparison judges pixels of models from their start: give images, and no VAE")
    if sampling.each < 2:
        raise ParameterError(f"--each {sampling.each}: a comparison draws 2 images a class or more")
    out.mkdir(parents=True, exist_ok=True)
    backbones = Backbones(*(pretrained(first, replace(body, plain=one), plan, out) for one in (True, False)))
    bench = TransferBench(backbones, second, plain, (trial, body, plan, sampling), out)
    outcomes = run(bench, arms, 0, Kept(out, ROWS))
    rows = ranked([one.row for one in outcomes.values()], outcomes, bench.metric)
    report = report_of_comparison(_about(bench), rows, outcomes, _sheets(bench, rows), second.names)
    save(out, {"rows": rows, "judge": bench.judge.accuracy}, report)
    return Compared(rows, report)


def pretrained(pictures: Pictures, body: Body, plan: Plan, out: Path) -> Any:
    """A backbone from `out`, or trained now and kept there; both kinds begin with the same weights and see the same images."""
    name = "plain" if body.plain else "kind"
    key = hashlib.sha256(f"{body} {plan} {pictures.sha256}".encode()).hexdigest()[:8]
    place = out / f"{name}-{key}"
    if not place.is_dir():
        split = begun(pictures, body, plan.seed)
        fit(split, pictures.images, pictures.labels, plan, state=out / f"{place.name}.training", title=f"pretraining, {name}")
        split.transformer.to("cpu")
        with atomic_directory(place) as folder:
            save_split(split, folder)
    return load(place)


def _about(bench: TransferBench) -> str:
    few, trial, learned = bench.few, bench.trial, ", ".join(bench.backbones.plain.names)
    given = f"{len(few.names)} classes, {trial.shots} images each, {trial.steps} steps, {trial.seeds} seed(s)"
    judge = f"The judge, fitted on other images, is right on {bench.judge.accuracy:.1%} of these"
    return f"{given}. {judge}. The backbones learned {learned} in {bench.plan.steps:,} steps."


def _sheets(bench: TransferBench, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    real = torch.stack([bench.others.images[bench.others.labels == one][:SHOWN] for one in range(len(bench.few.names))])
    found = {row["method"]: load_file(path)["images"] for row in rows if (path := bench.sheet(row["method"])).is_file()}
    return {"real": real, **found}
