"""The classifier that is stitched: it normalises each row by itself, so that no prediction depends on the batch it comes in.

Enters: rows (n, d) of vectors or relative coordinates, and class numbers. Leaves: a trained module and its predictions. The authors' heads
normalise over the batch in the middle, which a batch of one cannot; here that is a LayerNorm.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from regraft.errors import ParameterError

Rows = npt.NDArray[np.floating[Any]]
Classes = npt.NDArray[np.int64]
READ = 4096  # rows that are predicted at a time


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """L2 -> LayerNorm(d) -> Linear(d, hidden) -> SiLU -> LayerNorm(hidden) -> Linear(hidden, classes); cross-entropy, Adam.

    Attributes
    ----------
    hidden : width of the middle; None: d, as in the paper's notebooks.
    l2 : rows to length 1 first.
    epochs, batch_size, lr : of training; 3 to 5 epochs, 32 and 1e-3 in the paper's notebooks.

    Raises `ParameterError` for numbers that are not positive.
    """

    hidden: int | None = None
    l2: bool = True
    epochs: int = 5
    batch_size: int = 32
    lr: float = 1e-3

    def __post_init__(self) -> None:
        given = {"hidden": self.hidden, "epochs": self.epochs, "batch_size": self.batch_size, "lr": self.lr}
        for name, value in given.items():
            if value is not None and not value > 0:
                raise ParameterError(f"head: {name}={value}: give a number above 0")


class UnitLength(nn.Module):
    """Rows to length 1; a row of length 0 stays."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(x, dim=-1)


def fit_head(rows: Rows, classes: Classes, count: int, settings: HeadSettings, seed: int) -> nn.Module:
    """A head for `count` classes, trained on rows (n, d) and class numbers (n,). Everything random comes from `seed` alone."""
    size = rows.shape[1]
    hidden = settings.hidden or size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = [UnitLength()] if settings.l2 else []
        head = nn.Sequential(*first, nn.LayerNorm(size), nn.Linear(size, hidden), nn.SiLU(), nn.LayerNorm(hidden), nn.Linear(hidden, count))
        given, wanted = torch.from_numpy(np.asarray(rows, dtype=np.float32)), torch.from_numpy(classes)
        optimizer = torch.optim.Adam(head.parameters(), lr=settings.lr, fused=True)
        for _ in range(settings.epochs):
            for batch in torch.split(torch.randperm(len(given)), settings.batch_size):
                loss = nn.functional.cross_entropy(head(given[batch]), wanted[batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    return head.eval()


def predict(head: nn.Module, rows: Rows) -> Classes:
    """The class number of each row, shape (m,)."""
    given = torch.from_numpy(np.asarray(rows, dtype=np.float32))
    with torch.inference_mode():
        return np.concatenate([head(part).argmax(-1).numpy() for part in torch.split(given, READ)])
