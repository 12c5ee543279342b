"""Guidance, tested again: a deep plain network that does not train by itself, drawn to the layers of a small network at random.

The paper trains a 50-block fully connected network on ImageNet beside ResNet-18. Here 30 blocks of width 96 learn scikit-learn's digits
beside a residual network of seven convolutions. The prototype behind the sizes below is the card's: on 3,072 MNIST digits 38.8 % without,
61.3 % with a guide at random, 46.6 % guided in the first third alone. What is expected was declared before any run of this script.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from regraft.grow.guide.data import Arrays, open_arrays
from regraft.grow.guide.guides.distillation import Distillation
from regraft.grow.guide.guides.guidance import Guidance
from regraft.grow.guide.networks import DeepFCN, build
from regraft.grow.guide.train import Budget, fingerprint, fit, right
from regraft.progress import console, progress_bar
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.record import Findings, Ledger


def _declared(claim: str, baseline: str, expected: Expectation) -> Declared:
    return Declared(claim, baseline, expected, metric="accuracy", unit="share")


UNTRAINED = _declared("a guide at random lifts a deep plain network by at least 5 points", "no guide", Expectation(low=0.05))
TRAINED = _declared("a trained guide lifts it by at least 5 points", "no guide", Expectation(low=0.05))
FIRST = _declared("guided in the first third alone, it is no worse than without", "no guide", Expectation(low=0.0))
SHUFFLED = _declared("a guide that sees another order of the batch lifts it by less than 5 points", "no guide", Expectation(high=0.05))
DISTILLED = _declared("guidance by a trained guide is at least as good as its logits distilled", "logit distillation", Expectation(low=0.0))


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    seeds: int = 3
    steps: int = 300
    guide_steps: int = 100
    depth: int = 30


QUICK = Size(seeds=1, steps=10, guide_steps=5)


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 6 processor minutes in full."""
    size = QUICK if quick else Size()
    hits: dict[str, list[Any]] = {}
    rows = []
    ways = {
        "no guide": None,
        "guide at random": Guidance(),
        "guide at random, first third": Guidance(stop=max(1, size.steps // 3)),
        "guide at random, shuffled": Guidance(shuffle=True),
        "trained guide": Guidance(),
        "logit distillation": Distillation(),
    }
    with progress_bar("training", total=size.seeds * len(ways), unit="runs") as bar:
        for seed in range(size.seeds):
            data = open_arrays("digits", seed)
            trained = fit(build("resnet", data.shape, 10, 100 + seed), data, Budget(steps=size.guide_steps, seed=seed))
            for name, way in ways.items():
                guide = trained if name in ("trained guide", "logit distillation") else build("resnet", data.shape, 10, 100 + seed)
                found = train_one(data, size, guide, way, seed)
                hits.setdefault(name, []).append(found)
                rows.append({"way": name, "seed": seed, "accuracy": float(found.mean())})
                console.print(f"  {name}, seed {seed}: {found.mean():.3f}", highlight=False)
                bar.advance()
    found = {name: Sample(np.stack(values), np.ones((len(values), len(values[0])))) for name, values in hits.items()}
    run = Ledger(f"scikit-learn digits, {size.depth} blocks of width 96, {size.steps} steps of 256, Adam at 1e-3")
    text = "20 % of the images, another split a seed"
    run.settle(UNTRAINED, text, found["no guide"], found["guide at random"])
    run.settle(TRAINED, text, found["no guide"], found["trained guide"])
    run.settle(FIRST, text, found["no guide"], found["guide at random, first third"])
    run.settle(SHUFFLED, text, found["no guide"], found["guide at random, shuffled"])
    run.settle(DISTILLED, text, found["logit distillation"], found["trained guide"])
    return Findings(Guidance.paper, run.claims, {"accuracy": rows}, {"Accuracy": rows})


def train_one(data: Arrays, size: Size, guide: nn.Module, way: Guidance | Distillation | None, seed: int) -> Any:
    """Hits (examples,) of a target that is the same at the start for every way under a seed; the guide is held to have stayed as it was."""
    torch.manual_seed(seed)
    target = DeepFCN(int(np.prod(data.shape)), len(data.names), depth=size.depth)
    before, extra = fingerprint(guide), None if way is None else way.loss(target, guide)
    fit(target, data, Budget(steps=size.steps, seed=seed), extra)
    if fingerprint(guide) != before:
        raise RuntimeError("the guide changed")
    if extra is not None:
        extra.remove()
    return right(target, data).numpy().astype(np.float64)
