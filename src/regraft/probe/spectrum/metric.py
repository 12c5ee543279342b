"""The base of measures that need no more than moments: a metric of torchmetrics, and a probe.

Enters: batches of rows, from one process or many. Leaves: the measure, and `measure(rows)` with an interval. All measures of one kind have
the same states under the same names, so that a `MetricCollection` updates one of them for all; states of another kind have other names, for
a collection merges whatever looks alike after the first batch.
"""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from regraft.errors import ParameterError
from regraft.probe.probe import Measurement, Probe
from regraft.probe.spectrum.moments import Moments, as_block, directions, gram_of
from regraft.probe.spectrum.spectrum import Spectrum, shared

Dim = Annotated[int, Field(ge=1)] | None


class RowProbe(Probe, Metric):
    """A probe of rows (N, K): what all of this family share.

    Class attributes
    ----------------
    of : what is decomposed: the rows, or their directions (rows of length 1).
    unit, read : of the figure, and how to read it. smooth : whether draws of rows say how far the figure may be off.
    passes : 2 where the rows are read a second time, beside the decomposition.
    """

    full_state_update: bool | None = False
    is_differentiable: bool | None = False
    of: ClassVar[Literal["rows", "directions"]] = "rows"
    unit: ClassVar[str] = ""
    read: ClassVar[str]
    smooth: ClassVar[bool] = True
    passes: ClassVar[int] = 1

    def measure(self, rows: Any, *, seed: int = 0, draws: int = 50) -> Measurement:
        """The figure of `rows`: an array or tensor (N, K), or `Rows` that are read block by block; with an interval from `draws` draws.

        Raises `ParameterError` for another shape and `InputError` that names the first row with NaN or infinity.
        """
        from regraft.probe.spectrum.profile import profile

        found = profile([self], rows, seed=seed, draws=draws)
        return replace(found.measurements[0], notes=(*found.measurements[0].notes, *found.notes))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The figure of this batch alone, which is added to what was there, as with any metric."""
        found = super().forward(*args, **kwargs)
        self.settle()  # torchmetrics joined the batch's states to the old ones behind our back
        return found

    def settle(self) -> None:
        """Let go of rows that are no longer needed."""

    def _apply(self, fn: Callable[..., Any], exclude_state: Any = "") -> nn.Module:
        """As `Metric`, but a change of type moves the states only: in float16 a sum of squares would overflow."""

        def moved(state: torch.Tensor) -> torch.Tensor:
            return state.to(device=fn(state.new_zeros(0)).device)

        return super()._apply(moved, exclude_state)


class SpectrumProbe(RowProbe):
    """A probe that is a function of singular values or of the covariance's eigenvalues.

    Parameters
    ----------
    dim : K, where it is known ahead; needed only where one of several processes may see no row.
    exact : keep the rows and take their singular values, instead of those of Z'Z; without it that is done for N <= K alone.
    """

    def __init__(self, *, dim: Dim = None, exact: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim, self.exact = dim, exact
        self._prefix = "unit_" if self.of == "directions" else ""
        self._kept = f"{self._prefix}{'every' if exact else 'first'}_rows"
        square, line = ((dim, dim), (dim,)) if dim else ((), ())  # a number until K is known: `forward` adds a matrix to it
        self.add_state(f"{self._prefix}gram", torch.zeros(square, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state(f"{self._prefix}total", torch.zeros(line, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state(f"{self._prefix}counts", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")  # rows, and those of zeros
        self.add_state(self._kept, [], dist_reduce_fx="cat")

    @abstractmethod
    def figure(self, spectrum: Spectrum) -> float:
        """The measure; NaN where it is not defined."""

    def comments(self, spectrum: Spectrum) -> list[str]:
        """What beside the figure is worth saying of it."""
        return []

    def update(self, rows: torch.Tensor) -> None:
        """Add a batch of rows (n, K) of any floating type."""
        gram, total, counts = (getattr(self, self._prefix + name) for name in ("gram", "total", "counts"))
        block = as_block(rows, int(counts[0]), self.name).to(counts.device)
        if total.ndim and block.shape[1] != len(total):
            raise ParameterError(f"{self.name}: rows of {block.shape[1]} columns after rows of {len(total)}: give rows of one space")
        counted = torch.stack([counts.new_tensor(len(block)), (block == 0).all(1).sum()])
        if self.of == "directions":
            block = directions(block)
        setattr(self, f"{self._prefix}gram", gram + gram_of(block))
        setattr(self, f"{self._prefix}total", total + block.sum(0))
        setattr(self, f"{self._prefix}counts", counts + counted)
        getattr(self, self._kept).append(block)
        self.settle()

    def settle(self) -> None:
        """Let go of the rows once they are more than columns, unless exactness was asked for."""
        kept, counts = getattr(self, self._kept), getattr(self, f"{self._prefix}counts")
        if not self.exact and kept and int(counts[0]) > kept[0].shape[1]:
            kept[:] = [kept[0][:0]]  # never an empty list, which could not be gathered from the other processes

    def spectrum(self) -> Spectrum:
        """Of all rows so far. Raises `ParameterError` if there are none."""
        gram, total, counts = (getattr(self, self._prefix + name) for name in ("gram", "total", "counts"))
        rows, empty = (int(count) for count in counts)
        if not rows:
            raise ParameterError(f"{self.name}: no rows yet: call update with some first")
        kept = getattr(self, self._kept)
        known = dim_zero_cat(kept) if len(kept) else None
        complete = known is not None and len(known) == rows and (self.exact or rows <= len(total))
        return shared(Moments(gram, total, rows, empty), known if complete else None)

    def compute(self) -> torch.Tensor:
        return torch.tensor(self.figure(self.spectrum()), dtype=torch.float64)
