"""Measures that read the rows a second time, once the decomposition is known.

Enters: rows, as a metric (they are kept) or as a file (it is read twice). Leaves: a figure made of parts, one a block, that combine in any
order.
"""

from abc import abstractmethod
from typing import Any

import torch
from torchmetrics.utilities import dim_zero_cat

from regraft.errors import ParameterError
from regraft.probe.spectrum.metric import RowProbe
from regraft.probe.spectrum.moments import as_block
from regraft.probe.spectrum.spectrum import Spectrum

BLOCK = 4096  # rows of the second pass


class TwoPassProbe(RowProbe):
    """A probe with a second pass: `second` on each block of rows, `combine` over what it gave, `figure` of the whole."""

    passes = 2
    all_rows: list[torch.Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("all_rows", [], dist_reduce_fx="cat")

    @abstractmethod
    def second(self, block: torch.Tensor, spectrum: Spectrum) -> torch.Tensor:
        """What a block (n, K) of float64 rows adds, (m,)."""

    @abstractmethod
    def combine(self, parts: torch.Tensor) -> torch.Tensor:
        """Parts (blocks, m) as one, (m,)."""

    @abstractmethod
    def figure(self, part: torch.Tensor, spectrum: Spectrum) -> float:
        """The measure of all rows, of their combined part."""

    def comments(self, spectrum: Spectrum) -> list[str]:
        """What beside the figure is worth saying of it."""
        return []

    def update(self, rows: torch.Tensor) -> None:
        """Keep a batch of rows (n, K)."""
        self.all_rows.append(as_block(rows, sum(map(len, self.all_rows)), self.name).to(self.device))

    def compute(self) -> torch.Tensor:
        if not len(self.all_rows):
            raise ParameterError(f"{self.name}: no rows yet: call update with some first")
        rows = dim_zero_cat(self.all_rows)
        spectrum = Spectrum.of(rows)
        parts = torch.stack([self.second(block, spectrum) for block in torch.split(rows, BLOCK)])
        return torch.tensor(self.figure(self.combine(parts), spectrum), dtype=torch.float64)
