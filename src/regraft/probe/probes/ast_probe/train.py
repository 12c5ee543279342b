"""Training of one probe on states that are there already: Adam, a rate that falls on plateaus, early stop, the best weights kept.

Enters: `Examples` to train and to validate on. Leaves: the probe with its best weights, and how training went. With a folder it goes on
after a kill from the last whole epoch, and a finished one is only read.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from regraft.probe.probes.ast_probe.examples import Examples
from regraft.probe.probes.ast_probe.probe import Scores, SyntaxProbe, label_loss, ranking_loss
from regraft.training.state import load_state, save_state

EVALUATE = 256  # snippets at once where nothing is trained
ORTHOGONAL = 0.1  # the norm of B'B - I from which on a projection counts as orthogonal


@dataclass(frozen=True)
class Schedule:
    """Hyper-parameters of training, under the names of `ASTProbe`."""

    orthogonality: float = 5.0
    lr: float = 1e-3
    batch: int = 32
    epochs: int = 20
    patience: int = 5


@dataclass(frozen=True)
class Trained:
    """A probe with its best weights. `losses` : of validation, epoch by epoch; `warm_up` : how many came before B was orthogonal."""

    probe: SyntaxProbe
    losses: tuple[float, ...]
    warm_up: int = 0

    @property
    def off_orthogonal(self) -> float:
        """Frobenius norm of B'B - I."""
        with torch.no_grad():
            return float(self.probe.off_orthogonal().sqrt())


def fit(
    probe: SyntaxProbe,
    train: Examples,
    valid: Examples,
    schedule: Schedule,
    *,
    seed: int = 0,
    device: str = "cpu",
    frozen: bool = False,
    folder: Path | None = None,
    identity: Mapping[str, Any] | None = None,
) -> Trained:
    """Train `probe` in place.

    Epochs before B is orthogonal are not judged: meanwhile the validation loss rises with the norm of B, which would stop training at its
    start. With the paper's 625 steps an epoch that is over within the first; with few snippets it takes several.

    Parameters
    ----------
    frozen : leave B as it is and train only the tables of labels (direct transfer).
    folder, identity : where the state is kept after each epoch, and what the run is; a state of another run is refused.
    """
    probe.to(device)
    probe.B.requires_grad_(not frozen)
    named = dict(probe.named_parameters())
    best = {f"best.{name}": nn.Parameter(value.detach().clone(), requires_grad=False) for name, value in named.items()}
    optimizer = torch.optim.Adam([value for value in named.values() if value.requires_grad], lr=schedule.lr)
    known = {**asdict(schedule), "seed": seed, "frozen": frozen, "snippets": len(train), **(identity or {})}
    counters: dict[str, Any] = {"identity": known, "losses": [], "lr": schedule.lr, "bad": 0, "warm_up": 0, "done": False}
    if folder is not None:
        counters = load_state(folder, named | best, optimizer, known) or counters
    while not counters["done"]:
        epoch = len(counters["losses"])
        for group in optimizer.param_groups:
            group["lr"] = counters["lr"]
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(1_000 * seed + epoch))
        for batch in train.batches(schedule.batch, order, device):
            loss = tree_loss(probe(batch.states, batch.lengths), batch)
            if not frozen:
                loss = loss + schedule.orthogonality * probe.off_orthogonal()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        found = validation_loss(probe, valid, device)
        judged = counters["losses"][counters["warm_up"] :]
        if not judged and not frozen and schedule.orthogonality and float(probe.off_orthogonal().detach()) > ORTHOGONAL**2:
            counters["warm_up"] += 1
        if found < min(judged, default=float("inf")):
            counters["bad"] = 0
            for name, value in named.items():
                best[f"best.{name}"].data.copy_(value.data)
        else:
            counters["bad"] += 1
            counters["lr"] *= 0.1
        counters["losses"].append(found)
        counters["done"] = epoch + 1 >= schedule.epochs or counters["bad"] >= schedule.patience
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            save_state(folder, named | best, optimizer, counters)
    for name, value in named.items():
        value.data.copy_(best[f"best.{name}"].data)
    return Trained(probe, tuple(counters["losses"]), counters["warm_up"])


def tree_loss(scores: Scores, batch: Examples) -> torch.Tensor:
    """L_d + L_c + L_u of a packed batch."""
    ranked = ranking_loss(scores.d, batch.heights, (batch.lengths - 1).tolist())
    return ranked + label_loss(scores.c, batch.constituents) + label_loss(scores.u, batch.unary)


def validation_loss(probe: SyntaxProbe, examples: Examples, device: str = "cpu") -> float:
    """The mean of `tree_loss` over batches of `EVALUATE` snippets, without the orthogonality."""
    with torch.no_grad():
        found = [
            (len(batch), float(tree_loss(probe(batch.states, batch.lengths), batch))) for batch in examples.batches(EVALUATE, device=device)
        ]
    return sum(count * loss for count, loss in found) / sum(count for count, _ in found)
