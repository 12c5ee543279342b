"""Alignment: how close the two rows of a pair lie."""

from typing import Annotated, Any

import torch
from pydantic import Field
from torch.nn.functional import normalize

from regraft.errors import ParameterError
from regraft.probe.probe import Measurement
from regraft.probe.probes.uniformity import CONTRASTIVE
from regraft.probe.spectrum.metric import RowProbe
from regraft.probe.spectrum.moments import as_block


class Alignment(RowProbe):
    r"""Alignment loss (section 4.1 of the paper).

    :math:`\operatorname{mean} \lVert \hat x - \hat y \rVert_2^\alpha` over positive pairs: row i of x (n, K) and of y (n, K) are two
    views of one thing, brought to length 1. It streams: `update(x, y)`, `measure(x, y)`.

    Parameters
    ----------
    alpha : the paper's exponent.

    Returns a number from 0 (views alike) to 2 ** alpha. A pair with a row of zeros has no direction and is left out; NaN where none is
    left. Raises `ParameterError` for rows that are not in pairs and `InputError` for NaN and infinity.
    """

    paper = CONTRASTIVE
    summary = "mean distance of the two rows of a positive pair"
    needs = ("pairs",)
    unit = "distance"
    higher_is_better: bool | None = False
    read = "0: views of one thing lie together; lower is better, beside a low uniformity: a collapsed space has 0 too"

    def __init__(self, *, alpha: Annotated[float, Field(gt=0)] = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = alpha
        self._state = f"sums_{alpha}".replace(".", "_")  # a collection merges states of one name that are alike at first
        self.add_state(self._state, torch.zeros(3, dtype=torch.float64), dist_reduce_fx="sum")  # pairs, distances, their squares

    def update(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """Add a batch of pairs: x (n, K) and y (n, K)."""
        first, second = as_block(x, name=f"{self.name} x"), as_block(y, name=f"{self.name} y")
        if first.shape != second.shape:
            raise ParameterError(f"{self.name}: x of shape {tuple(first.shape)} and y of {tuple(second.shape)}: give rows in pairs")
        sums = getattr(self, self._state)
        told = (first != 0).any(1) & (second != 0).any(1)
        distance = (normalize(first[told], dim=1) - normalize(second[told], dim=1)).norm(dim=1).pow(self.alpha).to(sums.device)
        setattr(self, self._state, sums + torch.stack([told.sum().to(distance), distance.sum(), distance.square().sum()]))

    def compute(self) -> torch.Tensor:
        pairs, distances, _ = getattr(self, self._state)
        mean: torch.Tensor = distances / pairs  # NaN where there is none
        return mean

    def measure(self, x: Any, y: Any = None, *, seed: int = 0, draws: int = 50) -> Measurement:
        """The figure of pairs in memory, with an interval by the spread of the distances (`seed` and `draws` are not needed)."""
        if y is None:
            raise ParameterError(f"{self.name}: one set of rows: give their partners as well, measure(x, y)")
        metric = Alignment(alpha=self.alpha)
        metric.update(x, y)
        pairs, total, squares = (float(value) for value in getattr(metric, metric._state))
        value = total / pairs if pairs else float("nan")
        half = 1.96 * (max(squares / pairs - value**2, 0) / (pairs - 1)) ** 0.5 if pairs > 1 else float("nan")
        notes = [f"{len(x) - int(pairs)} pairs without a direction were left out"] if pairs < len(x) else []
        interval = (value - half, value + half) if pairs > 1 else None
        return Measurement(name=self.name, value=value, unit=self.unit, read=self.read, interval=interval, notes=tuple(notes))
