"""Uniformity: how evenly directions are spread over the sphere."""

from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torchmetrics.utilities import dim_zero_cat

from regraft.errors import ParameterError
from regraft.method import Paper
from regraft.probe.spectrum.metric import RowProbe
from regraft.probe.spectrum.moments import as_block
from regraft.probe.spectrum.pairs import pair_logs

CONTRASTIVE = Paper(
    "Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere",
    "Wang and Isola", 2020, "2005.10242")  # fmt: skip


class Uniformity(RowProbe):
    r"""Uniformity loss (section 4.1 of the paper).

    :math:`\log \operatorname{mean}_{i<j} \exp(-t \lVert \hat x_i - \hat x_j \rVert^2)` with :math:`\hat x` of length 1, over all pairs of a
    sample of rows, drawn without replacement; pairs are taken block by block. Rows of zeros have no direction and are left out.

    Parameters
    ----------
    t : the paper's temperature.
    sample : at most so many rows are drawn; with fewer rows all pairs are taken.
    seed : of the draw of rows by the metric. `measure` has its own.

    Returns a number from -4 t (no rows lie so: two antipodal points do) to 0 (all alike), about -2 t where directions are at right angles;
    NaN for fewer than two rows with a direction. Raises `InputError` for NaN and infinity.
    """

    paper = CONTRASTIVE
    summary = "log of the mean Gaussian potential between directions"
    unit = "nats"
    higher_is_better: bool | None = False
    read = "0: all directions alike, -2 t: spread as far as many dimensions allow; lower is better"

    def __init__(
        self,
        *,
        t: Annotated[float, Field(gt=0)] = 2.0,
        sample: Annotated[int, Field(ge=2)] = 4000,
        seed: Annotated[int, Field(ge=0)] = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.t, self.sample, self.seed = t, sample, seed
        self._names = [f"{what}_{sample}_{seed}" for what in ("sampled", "keys")]  # a collection merges states of one name
        for name in self._names:
            self.add_state(name, [], dist_reduce_fx="cat")
        self.batches = 0  # goes on after `reset`, which `forward` calls for every batch

    def update(self, rows: torch.Tensor) -> None:
        """Add a batch of rows (n, K). Each row draws a number; those with the smallest stay, so that processes can be joined."""
        block = as_block(rows, name=self.name)
        block = block[(block != 0).any(1)].to(self.device)
        rank = torch.distributed.get_rank() if torch.distributed.is_available() and torch.distributed.is_initialized() else 0
        drawn = np.random.default_rng([self.seed, rank, self.batches]).random(len(block))
        self.batches += 1
        kept, keys = (getattr(self, name) for name in self._names)
        kept.append(block)
        keys.append(torch.from_numpy(drawn).to(self.device))
        self.settle()

    def settle(self) -> None:
        """Keep the rows with the smallest numbers; now and then, so that each row is moved but a few times."""
        kept, keys = (getattr(self, name) for name in self._names)
        if sum(map(len, keys)) > 2 * self.sample:
            rows, numbers = self._smallest(torch.cat(kept), torch.cat(keys))
            kept[:], keys[:] = [rows], [numbers]

    def _smallest(self, rows: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        order = torch.argsort(keys, stable=True)[: self.sample]
        return rows[order], keys[order]

    def compute(self) -> torch.Tensor:
        kept, keys = (getattr(self, name) for name in self._names)
        if not len(kept):
            raise ParameterError(f"{self.name}: no rows yet: call update with some first")
        rows, _ = self._smallest(dim_zero_cat(kept), dim_zero_cat(keys))
        return torch.tensor(self.figure(*pair_logs(rows, None, self.t)), dtype=torch.float64)

    def figure(self, logs: torch.Tensor, counts: torch.Tensor) -> float:
        """The measure, of logarithms of sums over pairs of groups of rows, and the number of pairs of each."""
        pairs = counts.sum()
        return float(torch.logsumexp(logs.flatten(), 0) - pairs.log()) if pairs > 0 else float("nan")
