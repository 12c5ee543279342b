"""What `regraft probe spectrum` and `regraft probe compare` do: measure rows by every measure; choose among runs by the paper's rule.

Enters: a checkpoint, a file, or a model with a layer and texts. Leaves: a report and its figures, and a directory where one is asked for.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from regraft import provenance
from regraft.checkpoint import Checkpoint
from regraft.errors import InputError, ParameterError
from regraft.method import members
from regraft.output import atomic_directory, check_output
from regraft.probe.probe import Measurement
from regraft.probe.probes.alignment import Alignment
from regraft.probe.probes.lidar import Lidar
from regraft.probe.report.spectrum_picture import spectra_picture, spectrum_picture
from regraft.probe.spectrum.metric import RowProbe
from regraft.probe.spectrum.profile import Profile, profile
from regraft.probe.spectrum.selection import Candidate, Ordered, select
from regraft.probe.spectrum.sources.hidden import Pool, hidden_states
from regraft.probe.spectrum.sources.rows import Rows, as_rows, open_rows
from regraft.probe.spectrum.sources.table import Table
from regraft.report import Report, plain

FILE_KINDS = (".npy", ".safetensors", ".parquet")
TABLE_CAPTION = "Intervals are 95 %, by drawing random groups of rows again; none where a figure has none."


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a source is read.

    Attributes
    ----------
    key : the tensor of a .safetensors, the column of a .parquet. layer, text, text_column, pool, limit : hidden states of a model over
    texts instead of its table. leave_out : numbers of rows that are not measured, beside those of special and unused tokens.
    every_row : leave none of those out. sample_ids : which sample each row is a view of, for LiDAR (and alignment of twos).
    draws, seed : of intervals. exact : singular values of the rows themselves, held in memory.
    """

    key: str | None = None
    layer: int | None = None
    text: Sequence[str | Path] = ()
    text_column: str | None = None
    pool: Pool = "mean"
    limit: int = 25_600
    leave_out: Sequence[int] = ()
    sample_ids: Sequence[int] = ()
    every_row: bool = False
    draws: int = 50
    seed: int = 0
    exact: bool = False
    device: str = "cpu"
    dtype: str = "auto"


@dataclass(frozen=True)
class _Opened:
    """A source that can be measured: what `kind` its rows are of, and for a table what is known of its tokens."""

    source: Any
    rows: Rows
    kind: str
    table: Table | None = None

    @cached_property
    def reasons(self) -> dict[str, Any]:
        if self.table is None:
            return {}
        return {"special": self.table.special, "unused": self.table.unused}


def describe(
    source: str | Path, reading: Reading | None = None, *, out: Path | None = None, overwrite: bool = False
) -> tuple[Report, dict[str, Any]]:
    """Every measure of one source. Raises an `InputError` in one line for what cannot be read or measured."""
    reading, start = reading or Reading(), time.perf_counter()
    if out is not None:
        check_output(out, overwrite=overwrite, sources=[Path(source)] if Path(source).is_dir() else [])
    opened = _open(source, reading)
    probes = [cls() for cls in members("probe") if issubclass(cls, RowProbe) and not cls.needs]
    found = _measure(opened, probes, reading)
    report, figures = _report(opened, found, probes, reading)
    if out is not None:
        _write(out, overwrite, opened, report, figures, reading, time.perf_counter() - start)
    return report, figures


def compare(
    sources: Sequence[str | Path],
    reading: Reading | None = None,
    *,
    ordered: Ordered = "no",
    out: Path | None = None,
    overwrite: bool = False,
) -> tuple[Report, dict[str, Any]]:
    """Which of several runs to take, by RankMe with intervals. Raises `ParameterError` for runs that do not compare."""
    reading, start = reading or Reading(), time.perf_counter()
    if len(sources) < 2:
        raise ParameterError(f"{len(sources)} run: give two or more to choose from")
    if out is not None:
        check_output(out, overwrite=overwrite, sources=[Path(one) for one in sources if Path(one).is_dir()])
    names = ("rankme", "alpha-req", "stable-rank", "isoscore")
    probes = [cls() for cls in members("probe") if cls.name in names]
    opened = {_name(one, sources): _open(one, reading) for one in sources}
    kinds = {name: one.kind for name, one in opened.items()}
    if len(set(kinds.values())) > 1:
        said = ", ".join(f"{name}: {kind}" for name, kind in kinds.items())
        raise ParameterError(f"the runs are not of one kind ({said}): compare like with like")
    widths = {name: one.rows.dim for name, one in opened.items()}
    if len(set(widths.values())) > 1:
        said = ", ".join(f"{name}: {width}" for name, width in widths.items())
        raise ParameterError(f"ranks of different K do not compare ({said} columns): compare runs of one method and one size")
    profiles = {name: _measure(one, probes, reading) for name, one in opened.items()}
    candidates = [_candidate(name, found, opened[name].kind) for name, found in profiles.items()]
    choice = select(candidates, ordered=ordered)
    rows = [
        {"run": name, "rows": found.rows, **{m.name: m.value for m in found.measurements}, **_ends(_of(found, "rankme").interval)}
        for name, found in profiles.items()
    ]
    level = [name for name in choice.level if name != choice.name]
    lead = f"{choice.name} has the highest RankMe." if ordered == "no" else f"{choice.name}: the {ordered} value that reaches the highest."
    lead += f" Level with it, within its interval: {', '.join(level)}." if level else " No other lies within its interval."
    report = Report("Which run to take", lead)
    order = ["run", "rows", "rankme", "low", "high", *[name for name in names if name != "rankme"]]
    report.add_table(
        "Runs", [{key: row[key] for key in order} for row in rows], TABLE_CAPTION + _rule(choice.notes), best={"rankme": "high"}
    )
    report.add_figure("Spectra", spectra_picture({name: found.spectrum for name, found in profiles.items()}))
    figures = {"picked": choice.name, "level": list(choice.level), "ordered": ordered, "notes": list(choice.notes), "runs": rows}
    figures = dict(plain(figures))
    if out is not None:
        _write(out, overwrite, next(iter(opened.values())), report, figures, reading, time.perf_counter() - start)
    return report, figures


def _rule(notes: Sequence[str]) -> str:
    rule = " RankMe compares runs of one method and one size alone; where runs shrink without collapsing it can mislead."
    return rule + "".join(f" {note[0].upper()}{note[1:]}." for note in notes)


def _name(source: str | Path, sources: Sequence[str | Path]) -> str:
    """The last part of the path, or all of it where another run ends alike."""
    return Path(source).name if [Path(one).name for one in sources].count(Path(source).name) == 1 else str(source)


def _candidate(name: str, found: Profile, kind: str) -> Candidate:
    return Candidate(name, _of(found, "rankme"), found.rows, found.dim, kind)


def _of(found: Profile, name: str) -> Any:
    return next(measured for measured in found.measurements if measured.name == name)


def _ends(interval: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {"low": low, "high": high}


def _open(source: str | Path, reading: Reading) -> _Opened:
    path = Path(source).expanduser()
    if reading.layer is not None or reading.text:
        if reading.layer is None or not reading.text:
            raise ParameterError("hidden states need both --layer and --text: give the other one too")
        if path.suffix in FILE_KINDS:
            raise InputError(f"{path}: is a file of rows, and --layer asks for a model: give a checkpoint")
        checkpoint = Checkpoint.open(source)
        options = {name: getattr(reading, name) for name in ("pool", "limit", "text_column", "device", "dtype")}
        states = hidden_states(checkpoint, reading.text, layer=reading.layer, **options)
        return _Opened(checkpoint, as_rows(states, checkpoint.path.name), f"hidden states of layer {reading.layer}, {reading.pool}")
    if path.is_file() or path.suffix in FILE_KINDS:
        return _Opened(provenance.Given(path.resolve()), open_rows(path, reading.key), "rows of a file")
    if reading.key is not None:
        raise ParameterError(f"--key {reading.key}: only for files; of a checkpoint the input table is measured")
    table = Table.open(source)
    return _Opened(table.checkpoint, table.rows, "input table", table)


def _measure(opened: _Opened, probes: Sequence[Any], reading: Reading) -> Profile:
    beyond = [number for number in reading.leave_out if not 0 <= number < opened.rows.count]
    if beyond:
        raise ParameterError(f"--leave-out {beyond[0]}: {opened.rows.name} has rows 0 to {opened.rows.count - 1}")
    known = [] if reading.every_row else list(opened.reasons.values())
    gone = np.concatenate([np.asarray(reading.leave_out, dtype=np.int64), *known])
    exact = True if reading.exact else None
    found = profile(probes, opened.rows, seed=reading.seed, draws=reading.draws, leave_out=gone, exact=exact)
    found.measurements.extend(_of_views(opened, reading, gone))
    return found


def _of_views(opened: _Opened, reading: Reading, gone: npt.NDArray[np.int64]) -> list[Measurement]:
    """LiDAR of rows that are views of samples, and alignment where each sample has two."""
    if not len(reading.sample_ids):
        return []
    if len(reading.sample_ids) != opened.rows.count:
        raise ParameterError(f"--samples: {len(reading.sample_ids):,} ids for {opened.rows.count:,} rows: give one a row")
    kept = np.setdiff1d(np.arange(opened.rows.count), gone)
    rows = torch.cat([block for _, block in opened.rows.blocks()])[kept]
    ids = np.asarray(reading.sample_ids, dtype=np.int64)[kept]
    found = [Lidar().measure(rows, torch.from_numpy(ids), seed=reading.seed, draws=reading.draws)]
    if (np.unique(ids, return_counts=True)[1] == 2).all():
        pairs = np.argsort(ids, kind="stable").reshape(-1, 2)
        found.append(Alignment().measure(rows[pairs[:, 0]], rows[pairs[:, 1]]))
    return found


def _report(opened: _Opened, found: Profile, probes: Sequence[Any], reading: Reading) -> tuple[Report, dict[str, Any]]:
    alpha = next(probe for probe in probes if probe.name == "alpha-req")
    fit = alpha.fit(found.spectrum)
    lead = f"{opened.kind}: {found.rows:,} rows of {found.dim:,} columns. "
    report = Report(f"Spectrum of {found.name}", lead + " ".join(f"{note[0].upper()}{note[1:]}." for note in found.notes))
    rows = [
        {
            "measure": measured.name,
            "value": _short(measured.value),
            "95 %": "–" if measured.interval is None else f"{_short(measured.interval[0])} to {_short(measured.interval[1])}",
            **({"with all rows": _short(found.everything.get(measured.name))} if found.everything else {}),
            "unit": measured.unit,
            "how to read it": measured.read,
        }
        for measured in found.measurements
    ]
    report.add_table("Measures", rows, TABLE_CAPTION)
    remarks = [{"measure": m.name, "note": note} for m in found.measurements for note in m.notes if not note.startswith("interval:")]
    if remarks:
        report.add_table("Beside them", remarks)
    report.add_figure("Spectrum", spectrum_picture(found.spectrum, fit), "The dotted line is the fit of alpha over its window.")
    left_out = {name: len(ids) for name, ids in opened.reasons.items() if not reading.every_row} | {
        "by number": len(set(reading.leave_out))
    }
    figures: dict[str, Any] = {
        "source": found.name,
        "kind": opened.kind,
        "rows": found.rows,
        "columns": found.dim,
        "left_out": left_out,
        "measures": [{**m.to_dict(), "with_all_rows": found.everything.get(m.name)} for m in found.measurements],
        "alpha_fit": fit,
        "notes": list(found.notes),
        "singular_values": found.spectrum.singular_values.cpu().numpy(),
        "eigenvalues": found.spectrum.eigenvalues.cpu().numpy(),
    }
    if opened.table is not None:
        table = opened.table
        figures["undertrained"] = {"count": len(table.undertrained), "ids": table.undertrained, "tokens": table.tokens}
        shown = ", ".join(repr(token) for token in table.tokens[:10])
        counts = [{"rows": name, "count": count, "measured": "no"} for name, count in left_out.items() if count]
        hardly = {"rows": "under-trained tokens", "count": len(table.undertrained), "measured": "yes, but those that are unused"}
        report.add_table("Rows", [*counts, hardly], f"Under-trained by regraft.tokenizer.undertrained, the first: {shown}.")
    return report, dict(plain(figures))


def _short(value: float | None) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:.2e}" if value and abs(value) < 1e-3 else f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _write(out: Path, overwrite: bool, opened: _Opened, report: Report, figures: dict[str, Any], reading: Reading, seconds: float) -> None:
    """The page, the figures and `regraft.json`, in a directory that appears whole."""
    asked = dict(plain({name: value for name, value in vars(reading).items() if name != "seed"}))
    kept = {name: value for name, value in figures.items() if name not in ("singular_values", "eigenvalues")}
    made = provenance.record(
        opened.source, "probe", method="spectrum", parameters=asked, seed=reading.seed, metrics=kept, timings={"seconds": seconds}
    )
    sources = [opened.source.root] if opened.source.root.is_dir() else []
    with atomic_directory(out, overwrite=overwrite, sources=sources) as folder:
        report.save_html(folder / "report.html")
        (folder / "measures.json").write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        provenance.save(made, folder, ["report.html", "measures.json"])
