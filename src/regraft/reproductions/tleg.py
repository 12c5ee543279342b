"""TLEG, tested again: do a base and a slope, learned once, make models of any depth that are nearly trained?

The paper distils an auxiliary network of 12 layers from LeViT-384 on ImageNet; here one of 6 layers, 48 wide, learns from a vision
transformer of its own size on scikit-learn's handwritten digits, for 30 epochs, and models of 2 to 12 layers are written from it. All
matrices start with a deviation of 0.1: the paper's 0.02 belongs to models 384 wide and more. Whether the premise holds is looked up in two
trained models: the digits' own and SmolLM2-135M. What is expected was declared below before any full run; sizes come from the method's
description and from looks at one seed.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regraft.checkpoint import Checkpoint
from regraft.datasets.models import model_folder
from regraft.grow.depth.growers.sws import Sws
from regraft.grow.depth.growers.tleg import Tleg
from regraft.grow.depth.learned.grower import LearnedGrower, learn
from regraft.grow.depth.linearity import linearity
from regraft.grow.depth.stack import LayerStack
from regraft.grow.grower import Context
from regraft.progress import step
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.grow.digits import EPOCH, STD, Digits, accuracy, kept, vision_transformer
from regraft.reproductions.harness.record import Findings, Ledger

DEPTHS, AUX, NEAR = (2, 4, 6, 9, 12), 6, (4, 6, 9)
SETTINGS: dict[str, Any] = {"lr": 2e-3, "std": STD}

NEAR_AUX = [
    Declared(
        f"{depth} layers as written, never trained: within 3 points of the auxiliary network of {AUX}", "auxiliary network",
        Expectation(low=-0.03), metric="accuracy", unit="share",
    ) for depth in (4, 9)
]  # fmt: skip
OVER_SCRATCH = [
    Declared(
        f"{depth} layers: after one epoch at least 10 points over the same model from scratch after one", "from scratch, 1 epoch",
        Expectation(low=0.10), metric="accuracy", unit="share",
    ) for depth in NEAR
]  # fmt: skip
OVER_LONGER = Declared(
    "9 layers: one epoch is at least 10 points over five epochs from scratch", "from scratch, 5 epochs", Expectation(low=0.10),
    metric="accuracy", unit="share",
)  # fmt: skip
FALLS = Declared(
    f"2 layers as written are at least 3 points under {AUX}: accuracy falls away from the learned depth", f"{AUX} layers as written",
    Expectation(high=-0.03), metric="accuracy", unit="share",
)  # fmt: skip
UNTIED = Declared(
    "the auxiliary network is at most 5 points under as many layers of their own, distilled alike", "untied layers, distilled",
    Expectation(low=-0.05), metric="accuracy", unit="share",
)  # fmt: skip
CUT = Declared(
    "4 layers as written are at least 10 points over the first 4 of those untied layers", "first 4 untied layers",
    Expectation(low=0.10), metric="accuracy", unit="share",
)  # fmt: skip
SLOPE = Declared(
    "the slope is worth it: the auxiliary network is at least 1 point over one layer shared by all", "one layer, shared",
    Expectation(low=0.01), metric="accuracy", unit="share",
)  # fmt: skip
PREMISE = {
    name: Declared(
        f"the premise, {name}: lines explain at least twice as much of what tells the layers' matrices apart as by chance", "chance",
        Expectation(low=1.0), metric="share explained", unit="share", kind="ratio",
        note="Documents are the matrices of a layer; no training.",
    ) for name in ("a vision transformer trained on digits", "SmolLM2-135M")
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """Hits by arm of one seed, and shares that lines explain in the teacher."""

    hits: dict[str, Any]
    premise: Sample
    chance: Sample


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 9 processor minutes in full, under one with `quick`."""
    seeds, epochs = (1, 2) if quick else (3, 30)
    ledger = Ledger("scikit-learn digits, 1,200 images to train on, 597 to test on")
    runs = []
    for seed in range(seeds):
        with step(f"seed {seed}"):
            runs.append(one_seed(seed, epochs, 3 if quick else 15))
    arms = {name: accuracy([run.hits[name] for run in runs]) for name in runs[0].hits}
    how = f"{epochs} epochs of distillation, {seeds} seeds"
    for depth, declared in zip((4, 9), NEAR_AUX, strict=True):
        ledger.settle(declared, how, arms["aux"], arms[f"tleg {depth}"])
    for depth, declared in zip(NEAR, OVER_SCRATCH, strict=True):
        ledger.settle(declared, how, arms[f"scratch {depth}, 1"], arms[f"tleg {depth}, 1"])
    ledger.settle(OVER_LONGER, how, arms["scratch 9, 5"], arms["tleg 9, 1"])
    ledger.settle(FALLS, how, arms[f"tleg {AUX}"], arms["tleg 2"])
    ledger.settle(UNTIED, how, arms[f"untied {AUX}"], arms["aux"])
    ledger.settle(CUT, how, arms["untied 4"], arms["tleg 4"])
    ledger.settle(SLOPE, how, arms["shared"], arms["aux"])
    vision, language = PREMISE.values()
    ledger.settle(vision, f"{seeds} seeds", joined([run.chance for run in runs]), joined([run.premise for run in runs]))
    premise, chance = explained(LayerStack.open(Checkpoint.open(model_folder())))
    ledger.settle(language, "its 30 layers", chance, premise)
    rows: list[dict[str, Any]] = [
        {"depth": depth, **{name: arms[key].value for name, key in columns(depth).items() if key in arms}} for depth in DEPTHS
    ]
    rows.append({"depth": AUX, "as written": arms["aux"].value, "note": "auxiliary network"})
    return Findings(Tleg.paper, ledger.claims, {"accuracy": rows}, {"Accuracy by depth": rows})


def columns(depth: int) -> dict[str, str]:
    return {
        "as written": f"tleg {depth}",
        "after 1 epoch": f"tleg {depth}, 1",
        "scratch, 1 epoch": f"scratch {depth}, 1",
        "scratch, 5 epochs": f"scratch {depth}, 5",
        "first untied layers": f"untied {depth}",
        "one layer shared": f"shared {depth}",
    }


def one_seed(seed: int, epochs: int, teaching: int) -> Run:
    """Everything of one seed; `teaching` epochs are the teacher's."""
    digits = Digits(seed)
    with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
        source = kept(digits.train(vision_transformer(AUX, seed), teaching, 1e-3), Path(folder) / "teacher")
        context = Context(steps=epochs * EPOCH, seed=seed)
        arms: dict[str, LearnedGrower] = {
            "tleg": Tleg(**SETTINGS),
            "shared": Sws(stages=str(AUX), drop_path=0, **SETTINGS),
            "untied": Sws(stages=",".join("1" * AUX), drop_path=0, **SETTINGS),
        }
        genes = {name: learn(method, source, context, batches=digits.batch) for name, method in arms.items()}
        hits = {"aux": digits.hits(arms["tleg"].tied(genes["tleg"], AUX))}
        for depth in DEPTHS:
            written = arms["tleg"].expand(genes["tleg"], depth)
            hits[f"tleg {depth}"] = digits.hits(written)
            hits[f"tleg {depth}, 1"] = digits.hits(digits.train(written, 1, 5e-4))
            hits[f"shared {depth}"] = digits.hits(arms["shared"].expand(genes["shared"], depth))
            for tuned in (1, 5) if depth in NEAR else ():
                hits[f"scratch {depth}, {tuned}"] = digits.hits(digits.train(vision_transformer(depth, seed + 100), tuned, 1e-3))
        hits["shared"] = hits[f"shared {AUX}"]
        for depth in (2, 4, AUX):
            first = Sws(layers_source=",".join(str(layer) for layer in range(depth)))
            hits[f"untied {depth}"] = digits.hits(first.expand(genes["untied"], depth))
        return Run(hits, *explained(source))


def explained(stack: LayerStack) -> tuple[Sample, Sample]:
    """What lines explain of the variance of each matrix across layers, and what they would by chance."""
    found = linearity(stack)
    matrices = [line for line in found.lines if line.kind != "norm" and line.parameters > 2000]
    shares, variances = np.array([[line.linear, line.variance] for line in matrices]).T[:, None]
    return Sample(shares * variances, variances), Sample(found.by_chance * variances, variances)


def joined(samples: list[Sample]) -> Sample:
    return Sample(np.concatenate([one.amounts for one in samples]), np.concatenate([one.sizes for one in samples]))
