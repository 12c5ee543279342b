"""LoGAH, tested again: are predicted weights a better start than random ones, for widths and depths that were never seen?

The paper predicts ViTs and GPT-2s of up to 774 million parameters; here the targets are small ViTs for scikit-learn's handwritten digits.
A hypernetwork with the low-rank decoder and one with GHN-3's dense decoder are meta-trained alike on widths of 16 to 32 and depths of 2 and
3; both then start models of width 64, and depths 4 and 6, which are trained for one epoch beside the library's own initialization. Each
start has the best of three learning rates, chosen on training images that are kept for that. The library's own initialization,
N(0, 0.02^2), is a weak start for one short epoch: Xavier's learns several times as much in it, so that gains over it would be far smaller.
Before any run of this script: 15 points after one epoch, and low-rank no worse than tiled, come from the method's card.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy

from regraft.grow.predict.data import Examples, of_images
from regraft.grow.predict.hypernetwork.network import Hypernet
from regraft.grow.predict.space import VITS_DIGITS
from regraft.grow.predict.targets import Target
from regraft.grow.predict.training import MetaTraining, Targets, logits_of, train
from regraft.method import resolve
from regraft.progress import console, step
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.record import Findings, Ledger

TRAIN, HEADS = 1300, 4
SEEN, WIDE, DEEP = (3, 32), (4, 64), (6, 64)  # depth, width
VALIDATION = (3, 48)
RATES = (3e-4, 1e-3, 3e-3)
SMALL = {"d": 32, "L": 2, "H": 4, "classes": [10]}
DECODERS: dict[str, dict[str, Any]] = {"logah": {"r": 16, "K": 640}, "ghn3": {"kernel": 4}}
RANDOM = "the library's own initialization"

UNTOUCHED = Declared(
    "without any training of its own, a ViT of a seen size is right at least 30 points more often", RANDOM, Expectation(low=0.30),
    metric="accuracy", unit="share",
)  # fmt: skip
WIDER = Declared(
    "width 64, depth 4, never seen: at least 15 points better after one epoch", RANDOM, Expectation(low=0.15),
    metric="accuracy", unit="share",
)  # fmt: skip
DEEPER = Declared(
    "width 64, depth 6, never seen: at least 15 points better after one epoch", RANDOM, Expectation(low=0.15),
    metric="accuracy", unit="share",
)  # fmt: skip
NOT_WORSE = Declared(
    "width 64, depth 4: the low-rank decoder is no worse than the dense one, which tiles, after one epoch", "GHN-3's dense decoder",
    Expectation(low=0.0), metric="accuracy", unit="share",
)  # fmt: skip

Hits = npt.NDArray[np.float64]


@dataclass
class Found:
    """Hits over the test images (seeds, images) of each (start, target, epochs), and what was chosen on the way."""

    hits: dict[tuple[str, tuple[int, int], int], list[Hits]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, start: str, size: tuple[int, int], epochs: int, seed: int, hits: Hits, rate: float | None = None) -> None:
        self.hits.setdefault((start, size, epochs), []).append(hits)
        self.rows.append(
            {"start": start, "depth": size[0], "width": size[1], "epochs": epochs, "seed": seed, "lr": rate, "accuracy": float(hits.mean())}
        )

    def sample(self, start: str, size: tuple[int, int], epochs: int) -> Sample:
        amounts = np.stack(self.hits[start, size, epochs])
        return Sample(amounts, np.ones_like(amounts))


def reproduce(quick: bool) -> Findings:
    """Run all of it: four meta-trainings in full, two short ones with `quick`."""
    seeds, steps = (1, 60) if quick else (2, 1200)
    run = Ledger(f"scikit-learn digits, {TRAIN} images to train on, 497 to test on")
    found, looks = Found(), []
    for seed in range(seeds):
        examples, test = digits(seed)
        targets = Targets(VITS_DIGITS, examples)
        for method in DECODERS:
            with step(f"{method}, seed {seed}"):
                network, seen = meta_trained(method, targets, steps, seed)
                looks += [{"method": method, "seed": seed, **one} for one in seen]
                for size in (SEEN, WIDE, DEEP):
                    measure(found, method, size, targets, test, seed, predicted(network, targets, size))
        with step(f"own initialization, seed {seed}"):
            for size in (SEEN, WIDE, DEEP):
                measure(found, "random", size, targets, test, seed, drawn(targets, size, seed))
    how = f"{steps} steps of meta-training, {seeds} seeds"
    run.settle(UNTOUCHED, how, found.sample("random", SEEN, 0), found.sample("logah", SEEN, 0))
    run.settle(WIDER, how, found.sample("random", WIDE, 1), found.sample("logah", WIDE, 1))
    run.settle(DEEPER, how, found.sample("random", DEEP, 1), found.sample("logah", DEEP, 1))
    run.settle(NOT_WORSE, how, found.sample("ghn3", WIDE, 1), found.sample("logah", WIDE, 1))
    tables = {"Accuracy": found.rows, "Looks at the validation architecture": looks}
    return Findings(resolve("weight-predictor", "logah").paper, run.claims, {"accuracy": found.rows, "looks": looks}, tables)


def digits(seed: int) -> tuple[Examples, tuple[torch.Tensor, torch.Tensor]]:
    """Standardised images, in one order a seed: 1,300 to train on (15 % of them kept to choose by), the others to test on."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels = images[order].reshape(-1, 1, 8, 8), labels[order]
    images = (images - images[:TRAIN].mean()) / images[:TRAIN].std()
    test = torch.from_numpy(images[TRAIN:]).float(), torch.from_numpy(labels[TRAIN:])
    return of_images(images[:TRAIN], labels[:TRAIN], "digits", {"patch_size": 2}), test


def meta_trained(method: str, targets: Targets, steps: int, seed: int) -> tuple[Hypernet, list[dict[str, float]]]:
    """A small hypernetwork; of its looks at a wider architecture the best one is kept."""
    torch.manual_seed(seed)
    network = Hypernet(resolve("weight-predictor", method, {**SMALL, **DECODERS[method]}))
    settings = MetaTraining(steps=steps, lr=1e-3, look_every=max(1, steps // 15))
    looks = train(network, targets, settings, seed=seed, validation=fields(targets, VALIDATION))
    best = min(looks, key=lambda one: one.loss)
    console.print(f"  best look: step {best.step}, loss {best.loss:.3f}", highlight=False)
    return network, [{"step": one.step, "loss": one.loss} for one in looks]


def fields(targets: Targets, size: tuple[int, int]) -> dict[str, Any]:
    return VITS_DIGITS.fields(*size, HEADS, targets.examples.fields)


def predicted(network: Hypernet, targets: Targets, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """A target's tensors by a hypernetwork."""
    target = targets.of(fields(targets, size))
    with torch.no_grad():
        tensors = network([(target.graph, target.shapes)])[0]
    return dict(tensors) | target.fresh(set(target.shapes) - tensors.keys(), 0)


def drawn(targets: Targets, size: tuple[int, int], seed: int) -> dict[str, torch.Tensor]:
    """A target's tensors as `transformers` initializes it."""
    target = targets.of(fields(targets, size))
    return target.fresh(set(target.shapes), seed)


def measure(
    found: Found,
    start: str,
    size: tuple[int, int],
    targets: Targets,
    test: tuple[torch.Tensor, torch.Tensor],
    seed: int,
    tensors: Mapping[str, torch.Tensor],
) -> None:
    """Accuracy as it is, and after one epoch at the rate that does best on images kept from training."""
    target = targets.of(fields(targets, size))
    found.add(start, size, 0, seed, right(target, tensors, *test))
    tuned = {rate: epoch(target, tensors, targets.examples, rate, seed) for rate in RATES}
    rate = max(RATES, key=lambda one: right(target, tuned[one], *targets.examples.kept).mean())
    found.add(start, size, 1, seed, right(target, tuned[rate], *test), rate)


def epoch(target: Target, tensors: Mapping[str, torch.Tensor], examples: Examples, rate: float, seed: int) -> dict[str, torch.Tensor]:
    """All weights after one pass of batches of 64 over the training images (AdamW)."""
    weights = {name: one.detach().clone().requires_grad_() for name, one in tensors.items()}
    optimizer = torch.optim.AdamW(weights.values(), lr=rate, weight_decay=1e-2)
    order = torch.randperm(len(examples.inputs), generator=torch.Generator().manual_seed(seed))
    for chosen in torch.split(order, 64):
        loss = cross_entropy(logits_of(target, weights, examples.name, examples.inputs[chosen], 0), examples.labels[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return {name: one.detach() for name, one in weights.items()}


@torch.no_grad()
def right(target: Target, tensors: Mapping[str, torch.Tensor], inputs: torch.Tensor, labels: torch.Tensor) -> Hits:
    """1 where a model with `tensors` is right, (images,)."""
    return (logits_of(target, tensors, "pixel_values", inputs, 0).argmax(1) == labels).double().numpy()
