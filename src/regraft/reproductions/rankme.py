"""RankMe, tested again: does the rank of embeddings choose a run without labels, and where does it mislead?

The paper trains 110 ResNet-50 on ImageNet; here a small encoder is trained on scikit-learn's handwritten digits (1,797 images of 8 x 8), by
SimCLR at eight temperatures and by VICReg at six weights of its variance term. A run's worth is the accuracy of logistic regression on 200
labels over representations. What is expected was declared below before any run of this script: the sizes come from one earlier seed of each
sweep. The second sweep is the negative control: there the rank of embeddings is expected to point the wrong way.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss, normalize, pad, relu

from regraft.probe.probes.alpha_req import AlphaReQ
from regraft.probe.probes.rankme import RankMe
from regraft.probe.spectrum.sources.hooks import representations
from regraft.progress import console, step
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.record import Findings, Ledger

TEMPERATURES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0)
VARIANCES = (0.0, 0.3, 1.0, 3.0, 10.0, 25.0)
TRAIN, LABELS, BATCH = 1200, 200, 128
CHANCE = "no relation"

ORDER = Declared(
    "temperatures: RankMe of embeddings orders runs as accuracy does, Spearman at least 0.6", CHANCE, Expectation(low=0.6),
    metric="Spearman", unit="correlation",
)  # fmt: skip
PICK = Declared(
    "temperatures: the run with the highest RankMe is within 1.5 points of the best by labels", "the best run by labels",
    Expectation(low=-0.015), metric="accuracy", unit="share", note="The oracle chooses on the very test images it is scored on.",
)  # fmt: skip
CONTROL = Declared(
    "negative control, variance weights: RankMe of embeddings points the wrong way, Spearman at most -0.3", CHANCE,
    Expectation(high=-0.3), metric="Spearman", unit="correlation",
    note="Embeddings that have shrunk but kept all directions have a high rank.",
)  # fmt: skip
CONTROL_REPRESENTATION = Declared(
    "negative control, variance weights: RankMe of representations still points the right way, Spearman at least 0.3", CHANCE,
    Expectation(low=0.3), metric="Spearman", unit="correlation",
)  # fmt: skip

Floats = npt.NDArray[np.float64]
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Correlation:
    """Spearman of accuracy with a label-free measure over the runs of a sweep, averaged over seeds; test images are the documents.

    Attributes
    ----------
    hits : (seeds, runs, images), 1 where a run's probe is right. measure : (seeds, runs).
    """

    hits: Floats
    measure: Floats

    @property
    def documents(self) -> int:
        return int(self.hits.shape[2])

    @property
    def seeds(self) -> int:
        return len(self.hits)

    @property
    def value(self) -> float:
        return self.resample(np.arange(self.documents), np.arange(self.seeds))

    def resample(self, documents: npt.NDArray[np.int64], seeds: npt.NDArray[np.int64]) -> float:
        accuracy = self.hits[:, :, documents].mean(2)
        return float(np.mean([spearmanr(self.measure[seed], accuracy[seed]).statistic for seed in seeds]))


@dataclass(frozen=True)
class Trained:
    """One run: its setting, its probe's hits (images,), RankMe of embeddings and of representations, and alpha of embeddings."""

    setting: float
    seed: int
    hits: Floats
    embeddings: float
    representations: float
    alpha: float

    def row(self) -> dict[str, Any]:
        return {
            "setting": self.setting,
            "seed": self.seed,
            "accuracy": float(self.hits.mean()),
            "rankme_embeddings": self.embeddings,
            "rankme_representations": self.representations,
            "alpha_req": self.alpha,
        }


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 3 processor minutes in full, some seconds with `quick`."""
    seeds, steps = (1, 40) if quick else (3, 250)
    run = Ledger("scikit-learn digits, 1,200 images to train on, 597 to test on, 200 labels")
    start = time.perf_counter()
    with step("SimCLR at eight temperatures"):
        by_temperature = sweep(TEMPERATURES, lambda t: simclr(t), seeds, steps)
    with step("VICReg at six variance weights"):
        by_variance = sweep(VARIANCES, lambda weight: vicreg(weight), seeds, steps)
    how = f"{steps} steps of {BATCH}, {seeds} seeds"
    run.settle(ORDER, how, nothing(by_temperature), correlation(by_temperature, "embeddings"))
    best, picked = ([choose(runs, by) for runs in by_temperature] for by in ("accuracy", "embeddings"))
    run.settle(PICK, how, hits(best), hits(picked))
    run.settle(CONTROL, how, nothing(by_variance), correlation(by_variance, "embeddings"))
    run.settle(CONTROL_REPRESENTATION, how, nothing(by_variance), correlation(by_variance, "representations"))
    tables = {
        "SimCLR, temperatures": [one.row() for runs in by_temperature for one in runs],
        "VICReg, variance weights": [one.row() for runs in by_variance for one in runs],
    }
    console.print(f"  trained in {time.perf_counter() - start:.0f} s", highlight=False)
    return Findings(RankMe.paper, run.claims, {"sweeps": tables}, tables)


def sweep(settings: tuple[float, ...], loss: Callable[[float], Loss], seeds: int, steps: int) -> list[list[Trained]]:
    """Every setting under every seed: one list a seed."""
    return [[train(setting, loss(setting), seed, steps) for setting in settings] for seed in range(seeds)]


def train(setting: float, loss: Loss, seed: int, steps: int) -> Trained:
    """One run: trained on pairs of views of the training images, measured on them, probed on the test images."""
    images, labels = digits(seed)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = nn.Sequential()
    model.add_module("encoder", mlp(64, 256, 256, 128))
    model.add_module("projector", mlp(128, 128, 64))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(steps):
        batch = images[torch.randint(TRAIN, (BATCH,), generator=generator)]
        found = loss(model(view(batch, generator)), model(view(batch, generator)))
        optimizer.zero_grad()
        found.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    inside, outside = (representations(model, torch.split(images, 512), module=name).rows for name in ("encoder", "projector"))
    rank = {name: RankMe().measure(rows[:TRAIN], draws=0).value for name, rows in (("representations", inside), ("embeddings", outside))}
    alpha = AlphaReQ().measure(outside[:TRAIN], draws=0).value
    return Trained(setting, seed, probed(inside.numpy(), labels, seed), rank["embeddings"], rank["representations"], alpha)


def digits(seed: int) -> tuple[torch.Tensor, npt.NDArray[np.int64]]:
    """Images (1797, 64) in [0, 1] and labels, in one order a seed: the first 1,200 are trained on."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    return torch.from_numpy(images[order] / 16).float(), labels[order]


def view(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Another look at images (n, 64): moved by up to a pixel, with noise of 0.25, a fifth of the pixels dropped."""
    n = len(images)
    wide = pad(images.view(n, 8, 8), (1, 1, 1, 1))
    down, right = (torch.randint(3, (n, 1), generator=generator) + torch.arange(8) for _ in range(2))
    moved = wide[torch.arange(n)[:, None, None], down[:, :, None], right[:, None, :]].reshape(n, 64)
    kept = (torch.rand(n, 64, generator=generator) > 0.2).float()
    return (moved + 0.25 * torch.randn(n, 64, generator=generator)) * kept


def mlp(*widths: int) -> nn.Sequential:
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    return nn.Sequential(*[part for layer in layers[:-1] for part in (layer, nn.ReLU())], layers[-1])


def simclr(temperature: float) -> Loss:
    """Cross entropy of each view's partner among all other views of the batch."""

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        both = normalize(torch.cat([x, y]), dim=1)
        logits = (both @ both.T / temperature).fill_diagonal_(-torch.inf)
        return cross_entropy(logits, torch.arange(len(both)).roll(len(x)))

    return loss


def vicreg(variance: float) -> Loss:
    """25 times the distance of views, `variance` times the hinge on the deviations, once the covariances."""

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        found = 25 * mse_loss(x, y)
        for z in (x, y):
            covariance = torch.cov(z.T)
            spread = (covariance.diagonal() + 1e-4).sqrt()
            apart = covariance.square().sum() - covariance.diagonal().square().sum()
            found = found + variance * relu(1 - spread).mean() / 2 + apart / z.shape[1]
        return found

    return loss


def probed(rows: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], seed: int) -> Floats:
    """Hits of logistic regression on the first 200 labels, over the test images."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=seed))
    probe.fit(rows[:LABELS], labels[:LABELS])
    return np.asarray(probe.predict(rows[TRAIN:]) == labels[TRAIN:], dtype=np.float64)


def correlation(runs: list[list[Trained]], by: str) -> Correlation:
    return Correlation(
        np.stack([[one.hits for one in seed] for seed in runs]), np.array([[getattr(one, by) for one in seed] for seed in runs])
    )


def nothing(runs: list[list[Trained]]) -> Sample:
    """A correlation of 0, on the same images and seeds."""
    zeros = np.zeros((len(runs), len(runs[0][0].hits)))
    return Sample(zeros, np.ones_like(zeros))


def choose(runs: list[Trained], by: str) -> Trained:
    return max(runs, key=lambda one: float(one.hits.mean()) if by == "accuracy" else float(getattr(one, by)))


def hits(runs: list[Trained]) -> Sample:
    amounts = np.stack([one.hits for one in runs])
    return Sample(amounts, np.ones_like(amounts))
