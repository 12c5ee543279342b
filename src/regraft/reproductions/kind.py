"""KIND, tested again: does a gate by class leave what classes share in one part of a transformer, and does that part learn new classes?

The paper trains DiT-B/2 and DiT-L/2 on latents of 150 merged classes of ImageNet; here DiTs of 4 layers, 96 wide, learn 8 x 8 digits in
pixels: 0 to 5 from the start (120 images each, 1,800 steps of 32), 6 to 9 from 60 images each (100 steps of 64). Numbers of components are
not known of the paper: 48 learngenes and 8 tailors a class, of 96, are this library's. An image is right where a support vector machine,
fitted on images that no model saw, takes it for the class that was asked for. What is expected was declared before any full run; sizes come
from looks at one seed that is none of these.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from regraft.concepts.split.images.drawing import Sampling, draw
from regraft.concepts.split.images.judge import Judge
from regraft.concepts.split.images.pictures import Pictures, open_pictures
from regraft.concepts.split.layers.cost import cost_of, factor_parameters
from regraft.concepts.split.layers.gated import gated
from regraft.concepts.split.layers.partition import Partition
from regraft.concepts.split.learner import Backbones, shapes
from regraft.concepts.split.learners.kind import Kind
from regraft.concepts.split.model import Shape, Split, bare, fresh, split_of
from regraft.concepts.split.training import Plan, fit
from regraft.method import resolve
from regraft.progress import step
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.record import Findings, Ledger

SHAPE, LEARNGENES, TAILORS, BATCH = Shape(side=8, channels=1), 48, 8, 32
OLD, NEW, SHOTS, OTHERS = tuple("012345"), tuple("6789"), 60, ("lora", "pissa", "svdiff", "largest-components", "full")
PLAIN, CUT, OWN, WRONG, SHARED = "plain", "plain, rank 56", "kind", "kind, wrong tailors", "kind, learngenes alone"
DISTANCE: dict[str, Any] = {"metric": "Fréchet distance in 20 principal components, mean over classes", "unit": "", "kind": "ratio"}
RIGHT: dict[str, Any] = {"metric": "drawn images that are of the class asked for", "unit": "share"}
CLAIMS = [
    (Declared("old classes: KIND's distance is within 5 % of the plain model's", PLAIN, Expectation(high=0.05), **DISTANCE), OWN),
    (Declared("old classes: KIND's distance is 25 % or more below the plain model's cut to as many components", CUT,
              Expectation(high=-0.25), **DISTANCE), OWN),
    (Declared("old classes: KIND draws the class asked for at most 1 point less often", PLAIN, Expectation(low=-0.01), **RIGHT), OWN),
]  # fmt: skip
DIVERTED = Declared("with another class's tailors less than 10 % are of the class asked for", "none", Expectation(high=0.10), **RIGHT)
TRANSFER = {
    "lora": Declared("new classes, 100 steps: 2 points or more above LoRA with as many parameters", "lora", Expectation(low=0.02), **RIGHT),
    "pissa": Declared("new classes, 100 steps: no worse than PiSSA with as many parameters", "pissa", Expectation(low=0.0), **RIGHT),
    "largest-components": Declared(
        "new classes, 100 steps: 2 points or more above freezing a plain model's largest components",
        "largest-components",
        Expectation(low=0.02),
        **RIGHT,
    ),
    "full": Declared("new classes, 100 steps: no worse than all of a plain model trained", "full", Expectation(low=0.0), **RIGHT),
}
Drawn = dict[str, dict[str, list[Any]]]


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 14 processor minutes in full, half of one with `quick`."""
    seeds, steps, shots, each = (1, 60, 20, 8) if quick else (3, 1800, 100, 32)
    old: Drawn = {}
    new: Drawn = {}
    costs: list[dict[str, Any]] = []
    for seed in range(seeds):
        everything = open_pictures("digits")
        learned, real = everything.of(OLD).divided(2 / 3, seed)
        backbones = pretrained(learned, steps, seed)
        costs = [{"model": name, **vars(cost_of(one))} for name, one in zip((PLAIN, OWN), (backbones.plain, backbones.gated), strict=True)]
        with step(f"old classes, seed {seed}"):
            kept(old, on_old(backbones, each, seed), Judge(real, learned))
        few, others = everything.of(NEW).divided(SHOTS, seed)
        with step(f"new classes, seed {seed}"):
            kept(new, on_new(backbones, few, shots, each, seed), Judge(others, few))
    ledger = Ledger("scikit-learn digits, 0 to 5")
    about = f"{seeds} seeds, {steps} steps of {BATCH} images, {each} images a class drawn in 20 steps"
    for declared, arm in CLAIMS:
        key = "distance" if declared.kind == "ratio" else "right"
        ledger.settle(declared, about, sample(old[declared.baseline][key]), sample(old[arm][key]))
    wrong = sample(old[WRONG]["right"])
    ledger.settle(DIVERTED, about, Sample(np.zeros_like(wrong.amounts), wrong.sizes), wrong)
    ledger.data = f"scikit-learn digits, 6 to 9, {SHOTS} images each"
    for arm, declared in TRANSFER.items():
        ledger.settle(declared, f"{seeds} seeds, {shots} steps of 64 images", sample(new[arm]["right"]), sample(new["kind"]["right"]))
    tables = {"Old classes": rows(old), "New classes": rows(new), "Size and cost of one pass": costs}
    return Findings(Kind.paper, ledger.claims, {"tables": tables}, tables)


def pretrained(pictures: Pictures, steps: int, seed: int) -> Backbones:
    """A plain transformer and a gated one from the same first weights, on the same images."""
    found = []
    for learngenes in (None, LEARNGENES):
        split = fresh(SHAPE, pictures.names, learngenes=learngenes, tailors=TAILORS, seed=seed)
        fit(
            split,
            pictures.images,
            pictures.labels,
            Plan(steps=steps, batch=BATCH, seed=seed),
            title=f"{'plain' if learngenes is None else 'kind'}, seed {seed}",
        )
        found.append(split)
    return Backbones(*found)


def on_old(backbones: Backbones, each: int, seed: int) -> dict[str, Any]:
    """Images of all old classes by arm, from the same noise."""
    kind, gate = backbones.gated, backbones.gated.gate
    assert gate is not None
    cut, how = split_of(bare(backbones.plain), Partition(gate.partition.active, ((0, 0),)), shuffled=False), Sampling(each, seed=seed)
    ways = {WRONG: [(label + 1) % len(OLD) for label in range(len(OLD))], SHARED: [-1] * len(OLD)}
    found = {PLAIN: draw(backbones.plain, how), CUT: draw(cut, how), OWN: draw(kind, how)}
    return found | {arm: draw(kind, how, tailors=tailors) for arm, tailors in ways.items()}


def on_new(backbones: Backbones, few: Pictures, steps: int, each: int, seed: int) -> dict[str, Any]:
    """Images of the new classes by method; with as many parameters as `TAILORS` components a class have."""
    budget = factor_parameters(shapes_of(backbones.gated), TAILORS * len(few.names))
    found = {}
    for name in ("kind", *OTHERS):
        method = resolve("class-splitter", name)
        ready = method.begin(backbones, few, budget, seed)
        fit(ready.split, few.images, few.labels, Plan(steps=steps, lr=method.lr, drop=0.0, seed=seed), rates=ready.rates, title=name)
        found[name] = draw(ready.split, Sampling(each, seed=seed))
    return found


def shapes_of(split: Split) -> list[tuple[int, int]]:
    return [(one.out_features, one.in_features) for one in gated(split.transformer).values()] or shapes(split)


def kept(into: Drawn, drawn: Mapping[str, Any], judge: Judge) -> None:
    for arm, images in drawn.items():
        place = into.setdefault(arm, {"right": [], "distance": [], "judge": []})
        place["right"].append(judge.right(images))
        place["distance"].append(judge.distances(images))
        place["judge"].append(judge.accuracy)


def sample(values: list[Any]) -> Sample:
    found = np.stack(values)
    return Sample(found, np.ones_like(found))


def rows(drawn: Drawn) -> list[dict[str, Any]]:
    return [
        {
            "model": arm,
            "right": float(np.mean(one["right"])),
            "distance": float(np.mean(one["distance"])),
            "judge": float(np.mean(one["judge"])),
        }
        for arm, one in drawn.items()
    ]
