"""What `regraft probe tables` does: encoders beside each other and beside an order-free baseline, on a folder of tables.

Enters: models and a folder of CSV files. Leaves: a report and its figures, and a directory where one is asked for.
"""

import csv
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch

from regraft import provenance
from regraft.checkpoint import Checkpoint
from regraft.errors import CheckpointError, InputError, ParameterError
from regraft.language.loading import check_placement
from regraft.output import atomic_directory, check_output
from regraft.probe.probes.observatory.aids import read_aids
from regraft.probe.probes.observatory.cache import Cache
from regraft.probe.probes.observatory.encoder import MAX_TOKENS, Encoder, ModelEncoder, StaticEncoder
from regraft.probe.probes.observatory.method import Observation, Observatory
from regraft.probe.probes.observatory.report.page import figures, outcomes, page
from regraft.probe.probes.observatory.tables import MOST_ROWS, Folder, read_folder
from regraft.report import Report, plain


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is read, and how.

    Attributes
    ----------
    joins, types, synonyms : files, see `aids`. most_rows : of a table. max_tokens : of a table at once, at most what a model takes.
    cache : folder where vectors are kept for the next run; with an output directory the user's cache folder by default.
    """

    joins: Path | None = None
    types: Path | None = None
    synonyms: Path | None = None
    most_rows: int = MOST_ROWS
    max_tokens: int = MAX_TOKENS
    cache: Path | None = None
    device: str = "cpu"
    dtype: str = "auto"


def observe(
    models: Sequence[str],
    tables: Path,
    observatory: Observatory | None = None,
    reading: Reading | None = None,
    *,
    out: Path | None = None,
    overwrite: bool = False,
) -> tuple[Report, dict[str, Any]]:
    """Measure every model and the static rows of the first. Raises an `InputError` in one line for what cannot be read or measured."""
    observatory, reading, start = observatory or Observatory(), reading or Reading(), time.perf_counter()
    if not models:
        raise ParameterError("no model: give one or more")
    check_placement(reading.dtype, reading.device)
    if out is not None:
        check_output(out, overwrite=overwrite, sources=[tables] if tables.is_dir() else [])
    folder = read_folder(tables, reading.most_rows)
    aids = read_aids(folder.tables, reading.joins, reading.types, reading.synonyms)
    place = reading.cache or (Path(pooch.os_cache("regraft")) / "table-vectors" if out is not None else None)
    cache = Cache(place) if place is not None else None
    try:
        encoders, sources = open_encoders(models, reading, cache)
        baseline, notes = _baseline(encoders)
        seen = observatory.compare([*encoders, *([baseline] if baseline else [])], folder.tables, aids)
    finally:
        if cache is not None:
            cache.close()
    notes += [*(f"{name} skipped: {why}" for name, why in folder.skipped.items()), *folder.notes]
    notes += [f"{one.name} {note}" for one in encoders for note in one.notes]
    base = baseline.name if baseline else None
    free = [one.name for one in encoders if isinstance(one, StaticEncoder)]
    report = page(
        seen, baseline=base, title="Which encoder for these tables?", about=_about(folder, observatory, base), notes=notes, order_free=free
    )
    found = {
        "models": [one.name for one in encoders],
        "baseline": base,
        "tables": [{"name": one.name, "rows": len(one), "columns": one.width} for one in folder.tables],
        "skipped_tables": folder.skipped,
        "lead": report.lead,
        "properties": figures(seen),
        "notes": notes,
    }
    found = dict(plain(found))
    if out is not None:
        asked = dict(plain({name: getattr(observatory, name) for name in Observatory.parameters() if name != "seed"}))
        made = provenance.record(
            sources[0], "probe", method=Observatory.name, parameters=asked | {"models": list(models)}, seed=observatory.seed,
            corpus={"sha256": _digest(folder), "files": len(folder.tables)}, timings={"seconds": time.perf_counter() - start},
            notes=notes,
        )  # fmt: skip
        with atomic_directory(out, overwrite=overwrite, sources=[tables] if tables.is_dir() else []) as temporary:
            report.save_html(temporary / "report.html")
            (temporary / "measures.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            write_values(seen, temporary / "values.csv")
            provenance.save(made, temporary, ["report.html", "measures.json", "values.csv"])
    return report, found


def open_encoders(models: Sequence[str], reading: Reading, cache: Cache | None) -> tuple[list[Encoder], list[provenance.Source]]:
    """Each model as an encoder: a checkpoint, or a file of word vectors. ``NAME=MODEL`` gives it a name."""
    encoders: list[Encoder] = []
    sources: list[provenance.Source] = []
    for given in models:
        name, equals, rest = given.partition("=")
        path = rest if equals and not Path(given).exists() and "/" not in name else given
        called = name if path is rest else None
        if Path(path).is_file():
            from regraft.vectors.files import open_vectors

            encoders.append(StaticEncoder.of_vectors(open_vectors(Path(path)), name=called or Path(path).name))
            sources.append(provenance.Given(Path(path).resolve()))
            continue
        checkpoint = Checkpoint.open(path)
        placed = {"limit": reading.max_tokens, "device": reading.device, "dtype": reading.dtype, "cache": cache}
        encoders.append(ModelEncoder(checkpoint, name=called or _name(checkpoint, path, models), **placed))  # type: ignore[arg-type]
        sources.append(checkpoint)
    return encoders, sources


def _name(checkpoint: Checkpoint, path: str, models: Sequence[str]) -> str:
    """The last part of the path, or all of it where another ends alike."""
    short = checkpoint.id or Path(path).resolve().name
    return short if sum(Path(other).name == Path(path).name for other in models) == 1 else path


def _baseline(encoders: Sequence[Encoder]) -> tuple[StaticEncoder | None, list[str]]:
    """The first checkpoint's own input rows; none where there is no checkpoint, or it has no input rows that can be found."""
    first = next((one for one in encoders if isinstance(one, ModelEncoder)), None)
    if first is None:
        return None, ["no order-free baseline beside static vectors, which are one"]
    try:
        return first.static(), []
    except CheckpointError as error:
        return None, [f"no order-free baseline: {error}"]


def _about(folder: Folder, observatory: Observatory, baseline: str | None) -> str:
    tables = f"{len(folder.tables):,} table{'s' if len(folder.tables) != 1 else ''}"
    skipped = f" ({len(folder.skipped):,} skipped)" if folder.skipped else ""
    beside = f" {baseline[0].upper()}{baseline[1:]} know no order: 1 in row and column order by nature." if baseline else ""
    return f"Measured on {tables}{skipped}, {observatory.permutations:,} orders and {observatory.samples:,} samples each.{beside}"


def _digest(folder: Folder) -> str:
    return hashlib.sha256("\n".join(f"{one.name} {one.digest}" for one in folder.tables).encode()).hexdigest()


def write_values(seen: Observation, path: Path) -> None:
    """Every raw value: property, encoder, setting, measure, table, item, value, and what stands beside it. Raises `InputError`."""
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["property", "encoder", "setting", "measure", "table", "item", "value", "beside"])
            for name, one, found in outcomes(seen):
                beside = next(iter(found.beside.values()), None)
                for n, (table, item, value) in enumerate(zip(found.tables, found.items, found.values.tolist(), strict=True)):
                    other = "" if beside is None else repr(float(beside[n]))
                    writer.writerow([one.key, name, found.setting, found.measure, table, item, repr(value), other])
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: a name in the tables can't be written as UTF-8 ({error.reason})") from None
