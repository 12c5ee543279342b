"""Poincaré residual networks, tested again on small digits: identity initialization, accuracy, and what is like none of the classes.

The paper trains on CIFAR; here networks of 8, 16 and 32 channels learn scikit-learn's digits 0 to 6 (8 x 8, 600 to learn from), and 7 to 9
are the inputs that are like no class, told by the energy of logits. The plain network has the same shape. What is expected was declared
below before any full run; sizes come from the method's description and from a look at 30 steps with another seed.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from regraft.bias.learning import fit, right
from regraft.bias.poincare.layers import Init, PoincareLinear
from regraft.bias.poincare.resnet import EuclideanResNet, PoincareResNet, energy
from regraft.bias.prior import Plan
from regraft.bias.tasks.task import Task, digits
from regraft.method import resolve
from regraft.progress import step
from regraft.reproductions.harness.claim import Declared, Expectation, Sample
from regraft.reproductions.harness.record import Findings, Ledger

SHARE: dict[str, Any] = {"metric": "accuracy", "unit": "share"}
PLAIN, EYE, DRAWN, DEEP, DEEP_DRAWN = "plain network", "identity start", "HNN++ start", "identity start, bare", "HNN++ start, bare"
NORM = Declared(
    "20 linear layers that start as the identity keep norms, where those of HNN++ lose them", DRAWN, Expectation(0.999, 1.001),
    metric="norm after 20 layers over norm before", unit="ratio",
)  # fmt: skip
DECLARED = {
    ("accuracy", PLAIN, EYE): Declared(
        "the hyperbolic network is at most 3 points behind the plain one", PLAIN, Expectation(-0.03), **SHARE
    ),
    ("accuracy", DEEP_DRAWN, DEEP): Declared(
        "20 layers deep and without batch norms, the identity start is 30 points or more above that of HNN++", DEEP_DRAWN,
        Expectation(0.30), **SHARE,
    ),
    ("early", DRAWN, EYE): Declared(
        "with batch norms, the identity start is no worse than that of HNN++ after the first pass over the examples", DRAWN,
        Expectation(0.0), **SHARE,
    ),
    ("auroc", PLAIN, EYE): Declared(
        "unknown digits are told by energy at least as well as by the plain network", PLAIN, Expectation(0.0),
        metric="AUROC", unit="share",
    ),
}  # fmt: skip


def reproduce(quick: bool) -> Findings:
    """Run all of it: about 6 processor minutes in full, under one with `quick`."""
    seeds, steps = (1, 30) if quick else (3, 300)
    known, unknown = parted(digits(examples=900))
    found: dict[tuple[str, str], list[Any]] = {}
    for seed in range(seeds):
        for name in (PLAIN, EYE, DRAWN, DEEP, DEEP_DRAWN):
            bare = name in (DEEP, DEEP_DRAWN)
            with step(f"{name}, seed {seed}"):
                model = built(name, known.classes, seed)
                fit(model, known, Plan(steps=steps // 2 if bare else steps, seed=seed), nn.CrossEntropyLoss())
            found.setdefault(("accuracy", name), []).append(right(model, known))
            if name in (PLAIN, EYE):
                found.setdefault(("auroc", name), []).append(told(model, known, unknown))
            if name in (EYE, DRAWN):
                early = built(name, known.classes, seed)
                fit(early, known, Plan(steps=len(known.x) // 50, seed=seed), nn.CrossEntropyLoss())
                found.setdefault(("early", name), []).append(right(early, known))
    arms = {key: Sample(np.stack(rows), np.ones((seeds, len(rows[0])))) for key, rows in found.items()}
    ledger = Ledger("256 points of 64 dimensions")
    ledger.settle(NORM, "c = 0.1, double precision; the effect is over an HNN++ start", kept("hnn++"), kept("eye"))
    ledger.data = f"scikit-learn digits 0 to 6, {len(known.x)} to learn from, {len(known.x_test)} held out"
    for (what, before, after), declared in DECLARED.items():
        ledger.settle(declared, f"{seeds} seeds, at most {steps} steps", arms[what, before], arms[what, after])
    rows = [{"what": what, "network": name, "value": arm.value} for (what, name), arm in arms.items()]
    return Findings(resolve("prior", "poincare-resnet").paper, ledger.claims, {"reached": rows}, {"What each reaches": rows})


def parted(task: Task) -> tuple[Task, Tensor]:
    """Digits 0 to 6 as a task; held-out examples of the others."""
    old, held = task.y < 7, task.y_test < 7
    known = Task("digits 0 to 6", "labels", task.x[old], task.y[old], task.x_test[held], task.y_test[held], 7)
    return known, task.x_test[~held]


def built(name: str, classes: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    if name == PLAIN:
        return EuclideanResNet(classes, (8, 16, 32), 1, 1)
    init: Init = "hnn++" if name in (DRAWN, DEEP_DRAWN) else "eye"
    bare = name in (DEEP, DEEP_DRAWN)
    return PoincareResNet(classes, (8, 16, 32), 3 if bare else 1, 1, init=init, norms=not bare)


@torch.no_grad()
def told(model: nn.Module, known: Task, unknown: Tensor) -> Any:
    """Of each unknown input, the share of known ones whose energy is lower (half for equal ones): their mean is the AUROC."""
    model.eval()
    inside, outside = energy(model(known.x_test)), energy(model(unknown))
    return ((outside[:, None] > inside).double() + 0.5 * (outside[:, None] == inside)).mean(1).numpy()


@torch.no_grad()
def kept(init: Init) -> Sample:
    """Of each point, its norm after 20 layers over that before."""
    torch.manual_seed(0)
    x = torch.randn(256, 64, dtype=torch.float64)
    x = x / x.norm(dim=1, keepdim=True) * 2.5 * torch.rand(256, 1, dtype=torch.float64)
    before, layers = x.norm(dim=1), [PoincareLinear(64, 64, 0.1, init=init).double() for _ in range(20)]
    for layer in layers:
        x = layer(x)
    return Sample.of((x.norm(dim=1) / before).numpy())
