"""A task from files: a table with a target column (.csv, .tsv, .parquet), or rows and targets as arrays (.npy, .npz).

Leaves: a `Task`, split by a seed. No pickle is loaded.
"""

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regraft.checkpoint import Checkpoint
from regraft.errors import InputError, ParameterError
from regraft.probe.probes.inductive_bias.task import Task, standardized, standardized_targets
from regraft.probe.spectrum.sources.hidden import text_rows
from regraft.probe.spectrum.sources.rows import open_rows

FEW_NUMBERS = 20  # whole numbers of at most so many values are classes
KINDS = ("auto", "classes", "numbers")
SCALES = ("auto", "standard", "none")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a task is and how it is read.

    Attributes
    ----------
    task : the file. labels : targets of a .npy of rows. target : the column to predict; the last one by default. text, encoder : a column
    of text that a checkpoint turns into rows. kind : classes or numbers. scale : standard columns, none, or auto: standard for columns of a
    table. test : a share, or from 1 on a number of rows. limit : at most so many rows, drawn by the seed.
    """

    task: Path
    labels: Path | None = None
    target: str | None = None
    text: str | None = None
    encoder: str | None = None
    kind: str = "auto"
    scale: str = "auto"
    test: float = 0.25
    limit: int | None = None


def read_task(source: Source, seed: int = 0) -> Task:
    """Rows and targets in an order drawn by `seed`, the first of them to learn from.

    Raises an `InputError` in one line for what cannot be read.
    """
    if source.kind not in KINDS:
        raise ParameterError(f"--kind {source.kind}: choose one of {', '.join(KINDS)}")
    if source.scale not in SCALES:
        raise ParameterError(f"--scale {source.scale}: choose one of {', '.join(SCALES)}")
    if (source.text is None) != (source.encoder is None):
        raise ParameterError("--text and --encoder go together: a column of text, and a checkpoint that reads it")
    X, y = _read(source)
    if len(X) != len(y):
        raise InputError(f"{source.task}: {len(X):,} rows and {len(y):,} targets: give one a row")
    order = np.random.default_rng(seed).permutation(len(X))[: source.limit]
    test = int(source.test if source.test >= 1 else round(source.test * len(order)))
    if not 0 < test <= len(order) - 2:
        raise ParameterError(f"--test {source.test:g} of {len(order)} rows: at least one to test on and two to learn from are needed")
    if source.text is not None and source.encoder is not None:
        X = text_rows(Checkpoint.open(source.encoder), [str(one) for one in X[order]]).double().numpy()
    else:
        X = X[order]
    y = y[order]
    kind = _kind(y) if source.kind == "auto" else source.kind
    learn = len(order) - test
    if kind == "classes" and y.ndim == 1:
        y = np.array([_word(one) for one in y])
    task = Task.of(X[:learn], y[:learn], X[learn:], y[learn:], kind=kind, name=source.task.name)
    if task.classes is None and kind == "numbers":
        task = replace(standardized_targets(task), notes=(*task.notes, "targets are in standard deviations of the training rows"))
    table = source.task.suffix in (".csv", ".tsv", ".parquet") and source.text is None
    return standardized(task) if source.scale == "standard" or (source.scale == "auto" and table) else task


def _read(source: Source) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    path = source.task
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.suffix in (".npy", ".safetensors"):
        if source.labels is None:
            raise ParameterError(f"{path}: holds rows only: give their targets with --labels y.npy")
        return _matrix(path), _targets(source.labels)
    if path.suffix == ".npz":
        arrays = _load(path)
        missing = [name for name in ("X", "y") if name not in arrays]
        if missing:
            raise InputError(f"{path}: has no array '{missing[0]}': it has {', '.join(arrays)}; write np.savez(path, X=rows, y=targets)")
        return arrays["X"], arrays["y"]
    if path.suffix == ".parquet":
        return _parquet(source)
    if path.suffix in (".csv", ".tsv"):
        return _table(source, *_csv(path))
    raise InputError(f"{path}: not a kind of file that holds a task: give .csv, .tsv, .parquet, .npz, or .npy with --labels")


def _csv(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",") if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table of text ({' '.join(str(error).split())})") from None
    if len(rows) < 2:
        raise InputError(f"{path}: {len(rows)} lines: give a line of column names and one a row")
    head, body = rows[0], rows[1:]
    for number, row in enumerate(body, 2):
        if len(row) != len(head):
            raise InputError(f"{path}: row {number} has {len(row)} fields, the line of names {len(head)}")
    return head, body


def _table(source: Source, head: list[str], body: list[list[str]]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    columns = dict(zip(head, zip(*body, strict=True), strict=True))
    target = _column(source, source.target or head[-1], head)
    y = _numbers_or_words(np.array(columns[target]))
    if source.text is not None:
        return np.array(columns[_column(source, source.text, head)], dtype=object), y
    names = [name for name in head if name != target]
    if not names:
        raise InputError(f"{source.task}: has the target column '{target}' alone: there is nothing to learn from")
    found = []
    for name in names:
        try:
            found.append(np.array([float(one) if one.strip() else np.nan for one in columns[name]]))
        except ValueError:
            bad = next(one for one in columns[name] if not _is_number(one))
            raise InputError(
                f"{source.task}: column '{name}' holds '{bad[:40]}', which is no number: drop it, write it as numbers, or read it as text "
                "with --text and --encoder"
            ) from None
        if np.isnan(found[-1]).any():
            row = int(np.argmax(np.isnan(found[-1])))
            raise InputError(f"{source.task}: column '{name}' is empty or NaN in row {row + 2}: fill it or leave the row out")
    return np.stack(found, 1), y


def _parquet(source: Source) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    if source.labels is not None:
        return _matrix(source.task), _targets(source.labels)
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise InputError(f"{source.task}: reading it needs the package pyarrow: pip install 'regraft[data]'") from None
    try:
        table = pq.read_table(source.task)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{source.task}: cannot be read as Parquet ({' '.join(str(error).split())})") from None
    head = list(table.column_names)
    rest = [name for name in head if name != (source.target or head[-1])]
    if len(rest) == 1 and pa.types.is_list(table.schema.field(rest[0]).type) and source.text is None:
        return _matrix(source.task, rest[0]), _numbers_or_words(
            np.array(table.column(_column(source, source.target or head[-1], head)).to_pylist())
        )
    body = [["" if one is None else str(one) for one in row.values()] for row in table.to_pylist()]
    return _table(source, head, body)


def _column(source: Source, name: str, head: list[str]) -> str:
    if name not in head:
        shown = ", ".join(head[:12]) + (", ..." if len(head) > 12 else "")
        raise InputError(f"{source.task}: has no column '{name}': it has {shown}")
    return name


def _matrix(path: Path, key: str | None = None) -> npt.NDArray[np.float64]:
    return np.concatenate([block.double().numpy() for _, block in open_rows(path, key).blocks()])


def _load(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        loaded = np.load(path, allow_pickle=False)
        return {name: loaded[name] for name in loaded.files} if path.suffix == ".npz" else {"y": loaded}
    except Exception as error:  # zip, header and pickle errors each have their own type
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None


def _targets(path: Path) -> npt.NDArray[Any]:
    """A .npy, or a line of text a row."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if path.suffix == ".npy":
        return _load(path)["y"]
    try:
        return _numbers_or_words(np.array([line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a target a line ({' '.join(str(error).split())})") from None


def _numbers_or_words(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    try:
        return values.astype(np.float64)
    except ValueError:
        return values.astype(str)


def _kind(y: npt.NDArray[Any]) -> str:
    """Words are classes, and so are whole numbers of at most 20 values."""
    if y.ndim == 1 and y.dtype.kind in "US":
        return "classes"
    whole = y.ndim == 1 and bool((np.isfinite(y.astype(np.float64)) & (y == np.round(y))).all())
    return "classes" if whole and len(np.unique(y)) <= FEW_NUMBERS else "numbers"


def _word(value: Any) -> str:
    """The class 3.0 is called 3."""
    return str(int(value)) if isinstance(value, (float, np.floating)) and float(value).is_integer() else str(value)


def _is_number(text: str) -> bool:
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True
