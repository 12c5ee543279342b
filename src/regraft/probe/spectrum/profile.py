"""All measures of rows, from one pass over them: a second one only for the measures that need it.

Enters: probes and `Rows`. Leaves: a `Profile`: a measurement of each, with an interval; the spectrum; and, where rows were left out, the
figures with them too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from regraft.errors import ParameterError
from regraft.probe.probe import Measurement
from regraft.probe.spectrum.draws import interval_of, multiplicities
from regraft.probe.spectrum.groups import Groups, group_count
from regraft.probe.spectrum.moments import Moments, as_block, directions
from regraft.probe.spectrum.pairs import pair_logs
from regraft.probe.spectrum.sources.rows import Rows, as_rows
from regraft.probe.spectrum.spectrum import Spectrum
from regraft.progress import Bar, progress_bar

Ids = npt.NDArray[np.int64]
SMALL_DIM = 1024  # beyond it fewer draws are made: each costs K ** 3
FEWEST_DRAWS = 8


class Measured(Protocol):
    """What is asked of a probe; `figure` takes what its kind needs."""

    name: str
    of: str
    unit: str
    read: str
    smooth: bool
    passes: int
    figure: Any


@dataclass(frozen=True)
class Profile:
    """What was found.

    Attributes
    ----------
    name, rows, dim : what was measured: N rows of K columns. left_out : how many rows were not.
    measurements : one a probe, in their order. spectrum : of the rows. notes : on all measurements.
    everything : figures by name with no row left out, of the measures that need one pass; empty where none was.
    """

    name: str
    rows: int
    dim: int
    measurements: list[Measurement]
    spectrum: Spectrum
    left_out: int = 0
    notes: tuple[str, ...] = ()
    everything: dict[str, float] = field(default_factory=dict)


def profile(
    probes: Sequence[Any], given: Any, *, seed: int = 0, draws: int = 50, leave_out: Ids | None = None, exact: bool | None = None
) -> Profile:
    """Measure `given`, an array or tensor (N, K) or `Rows`.

    Parameters
    ----------
    draws : of random groups of rows, for intervals; 0 for none. Fewer are made where K is large.
    leave_out : numbers of rows that are not measured. exact : singular values of the rows, which are then held in memory, and not of Z'Z;
        by default where N <= K.

    Raises `ParameterError` where no row is left, and `InputError` that names the first row with NaN or infinity.
    """
    rows = as_rows(given)
    gone = np.unique(np.asarray(leave_out if leave_out is not None else [], dtype=np.int64))
    gone = gone[(gone >= 0) & (gone < rows.count)]
    count = rows.count - len(gone)
    if count < 1:
        raise ParameterError(f"{rows.name}: no row is left of {rows.count}: leave fewer out")
    hold = exact or any(getattr(probe, "exact", False) for probe in probes) or (exact is None and count <= rows.dim)
    first = _Pass(rows, gone, probes, draws, seed, hold)
    with progress_bar(f"reading {rows.name}", total=rows.count, unit="rows") as bar:
        first.read(bar)
    spectra = first.spectra()
    seen = _Second(probes, spectra["rows"], first.group_total)
    if seen.probes:
        with progress_bar(f"reading {rows.name} again", total=rows.count, unit="rows") as bar:
            for block, sizes in first.dealt(bar):
                seen.add(block, sizes)
    found = _measurements(probes, first, seen, spectra, _draws(draws, rows.dim), seed)
    everything = {}
    if len(gone):
        whole = {kind: Spectrum(groups.moments() + first.gone[kind]) for kind, groups in first.groups.items()}
        everything = {probe.name: probe.figure(whole[probe.of]) for probe in probes if hasattr(probe, "spectrum")}
    return Profile(rows.name, count, rows.dim, found, spectra["rows"], len(gone), tuple(_notes(spectra["rows"], first)), everything)


def _draws(draws: int, dim: int) -> int:
    return min(draws, max(FEWEST_DRAWS, int(draws * (SMALL_DIM / dim) ** 3))) if dim > SMALL_DIM else draws


class _Pass:
    """Reads rows in order, deals them to random groups, and keeps what the first pass is for."""

    def __init__(self, rows: Rows, gone: Ids, probes: Sequence[Any], draws: int, seed: int, hold: bool) -> None:
        self.rows, self.gone_ids, self.seed, self.hold = rows, gone, seed, hold
        self.kinds = ["rows", *(["directions"] if any(probe.of == "directions" for probe in probes) else [])]
        self.group_total = min(group_count(rows.dim, len(self.kinds)), rows.count - len(gone)) if draws else 1
        self.groups = {kind: Groups(rows.dim, self.group_total) for kind in self.kinds}
        self.gone: dict[str, Moments] = {}
        self.held: list[torch.Tensor] = []
        wanted = max((probe.sample for probe in probes if hasattr(probe, "sample")), default=0)
        chosen = np.random.default_rng([seed, 1]).choice(rows.count, min(wanted + len(gone), rows.count), replace=False)
        self.chosen = np.sort(np.setdiff1d(chosen, gone, assume_unique=True)[:wanted]) if wanted else np.zeros(0, dtype=np.int64)
        self.sampled: list[torch.Tensor] = []

    def read(self, bar: Bar) -> None:
        for block, sizes in self.dealt(bar, collecting=True):
            empty = self._empty(block, sizes)
            self.groups["rows"].add(block.numpy(), sizes, empty)
            if self.hold:
                self.held.append(block)
            if "directions" in self.kinds:
                self.groups["directions"].add(directions(block).numpy(), sizes, empty)

    def dealt(self, bar: Bar, collecting: bool = False) -> Iterator[tuple[torch.Tensor, npt.NDArray[np.int64]]]:
        """Blocks of float64 rows that lie group by group, and the size of each group's part.

        The same rows go to the same groups each time. `collecting`: what is left out, and the sample, are kept on the way.
        """
        rng = np.random.default_rng(self.seed)
        for start, stored in self.rows.blocks():
            block = as_block(stored, start, self.rows.name)
            here = slice(*np.searchsorted(self.gone_ids, [start, start + len(block)]))
            out = self.gone_ids[here] - start
            if collecting:
                picked = self.chosen[slice(*np.searchsorted(self.chosen, [start, start + len(block)]))] - start
                if len(picked):
                    self.sampled.append(block[torch.from_numpy(picked)])
                self._leave_out(block[torch.from_numpy(out)])
            if len(out):
                block = block[torch.from_numpy(np.delete(np.arange(len(block)), out))]
            labels = rng.integers(0, self.group_total, len(block))
            if self.group_total > 1:
                block = block[torch.from_numpy(np.argsort(labels, kind="stable"))]
            bar.advance(len(stored))
            yield block, np.bincount(labels, minlength=self.group_total)

    def _leave_out(self, block: torch.Tensor) -> None:
        if len(block):
            for kind in self.kinds:
                found = Moments.of(directions(block) if kind == "directions" else block)
                self.gone[kind] = self.gone[kind] + found if kind in self.gone else found

    def _empty(self, block: torch.Tensor, sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """How many rows of each group are all zero."""
        zero = (block[:, 0] == 0).nonzero().flatten()  # few rows begin with a zero: the others need no second look
        zero = zero[(block[zero] == 0).all(1)]
        label = np.repeat(np.arange(len(sizes)), sizes)[zero.numpy()]
        return np.bincount(label, minlength=len(sizes))

    def spectra(self) -> dict[str, Spectrum]:
        known = {"rows": torch.cat(self.held)} if self.hold else {}
        return {kind: Spectrum(groups.moments(), known.get(kind)) for kind, groups in self.groups.items()}


class _Second:
    """What the probes with two passes gather, one part a group of rows."""

    def __init__(self, probes: Sequence[Any], spectrum: Spectrum, groups: int) -> None:
        self.probes = [probe for probe in probes if probe.passes == 2]
        self.spectrum, self.groups = spectrum, groups
        self.parts: dict[str, list[list[torch.Tensor]]] = {probe.name: [[] for _ in range(groups)] for probe in self.probes}

    def add(self, block: torch.Tensor, sizes: npt.NDArray[np.int64]) -> None:
        for probe in self.probes:
            for held, part in zip(self.parts[probe.name], torch.split(block, sizes.tolist()), strict=True):
                if len(part):
                    held.append(probe.second(part, self.spectrum))
                    if len(held) > 1:
                        held[:] = [probe.combine(torch.stack(held))]

    def figure(self, probe: Any, weights: torch.Tensor | None = None) -> float:
        """Of all groups, each as often as `weights` say."""
        times = torch.ones(self.groups) if weights is None else weights
        parts = [held[0] for held, often in zip(self.parts[probe.name], times.tolist(), strict=True) if held for _ in range(int(often))]
        return float(probe.figure(probe.combine(torch.stack(parts)), self.spectrum)) if parts else float("nan")


def _measurements(
    probes: Sequence[Any], first: _Pass, seen: _Second, spectra: dict[str, Spectrum], draws: int, seed: int
) -> list[Measurement]:
    """Each probe's figure, and its interval by draws of groups: one set of draws for all of them."""
    sample = torch.cat(first.sampled) if first.sampled else torch.zeros(0, first.rows.dim)
    told = sample[(sample != 0).any(1)]
    some = min(20, len(told) // 2)
    labels = torch.from_numpy(np.random.default_rng([seed, 2]).permutation(np.arange(len(told)) % max(some, 1)))
    pairs = {p.name: pair_logs(told[: p.sample], labels[: p.sample], p.t) for p in probes if hasattr(p, "sample") and len(told) > 1}
    values: dict[str, float] = {}
    for probe in probes:
        if hasattr(probe, "sample"):
            values[probe.name] = probe.figure(*pairs[probe.name]) if probe.name in pairs else float("nan")
        else:
            values[probe.name] = seen.figure(probe) if probe.passes == 2 else probe.figure(spectra[probe.of])
    drawn: dict[str, list[float]] = {probe.name: [] for probe in probes}
    rng = np.random.default_rng([seed, 3])
    with progress_bar("drawing rows again", total=draws, unit="draws") as bar:
        for weights in multiplicities(first.group_total, draws if first.group_total > 1 else 0, rng):
            again = {kind: Spectrum(groups.moments(weights.numpy())) for kind, groups in first.groups.items()}
            for probe in (probe for probe in probes if probe.smooth and not hasattr(probe, "sample")):
                redone = seen.figure(probe, weights) if probe.passes == 2 else probe.figure(again[probe.of])
                drawn[probe.name].append(redone)
            bar.advance()
        for probe in (probe for probe in probes if probe.name in pairs):
            for weights in multiplicities(max(some, 1), draws if some > 1 else 0, rng):
                drawn[probe.name].append(probe.figure(*_weighted(*pairs[probe.name], weights)))
    spectrum = {probe.name: spectra[probe.of] for probe in probes}
    return [
        Measurement(
            name=probe.name,
            value=values[probe.name],
            unit=probe.unit,
            read=probe.read,
            interval=interval_of(values[probe.name], drawn[probe.name], some if probe.name in pairs else first.group_total),
            notes=(*_own_notes(probe, spectrum[probe.name], len(told)), *_interval_note(probe, len(drawn[probe.name]), first.group_total)),
        )
        for probe in probes
    ]


def _weighted(logs: torch.Tensor, counts: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums over pairs of groups where group g stands `weights[g]` times; a row's copies make no pair with each other."""
    times = torch.outer(weights, weights)
    times.diagonal().copy_(weights)
    return logs + times.log(), counts * times


def _own_notes(probe: Any, spectrum: Spectrum, sampled: int) -> list[str]:
    if hasattr(probe, "sample"):
        return [f"all pairs of {min(sampled, probe.sample):,} rows"]
    return list(probe.comments(spectrum))


def _interval_note(probe: Any, draws: int, groups: int) -> list[str]:
    if not draws:
        return []
    what = "a sample of rows" if hasattr(probe, "sample") else f"{groups} random groups of rows"
    return [f"interval: {draws} draws of {what}"]


def _notes(spectrum: Spectrum, first: _Pass) -> list[str]:
    rows, dim = spectrum.rows, spectrum.dim
    notes = []
    if rows < dim:
        notes.append(f"only {rows:,} rows for {dim:,} columns: no rank can exceed {rows:,}; take at least {5 * dim:,} rows")
    elif rows < 5 * dim:
        notes.append(f"{rows:,} rows for {dim:,} columns, fewer than five a column: ranks come out too low; take {5 * dim:,} rows")
    empty = spectrum.moments.empty
    if empty == rows:
        notes.append("all rows are zero: no measure of rank is defined")
    elif empty:
        notes.append(f"{empty:,} rows are all zero")
    if len(first.gone_ids):
        notes.append(f"{len(first.gone_ids):,} rows were left out")
    return notes
