"""Rows of clicks on disk, as a model takes them: ids of each field from 0, numbers, labels, in three splits.

Enters: a `Source` (and one of test rows), what its columns mean. Leaves: arrays of int32 ids and float32 numbers, mapped from files, so
that memory holds one block of rows at a time, and the values of fields. Ids are counted on the training rows alone: id 0 is a value that
was not seen there, or too seldom; values are in the order of their texts.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.lib.format import open_memmap

from regraft.errors import InputError, ParameterError
from regraft.output import atomic_directory
from regraft.progress import progress_bar
from regraft.provenance import sha256
from regraft.tables.data.readers import Source, open_source
from regraft.tables.data.vocabulary import Counted, texts

TRAIN, VALIDATION, TEST = range(3)
NAMES = ("train", "validation", "test")
SHARES = (0.8, 0.1, 0.1)
MANY = 100  # different numbers, from which a column of numbers is a quantity, unless its name ends in "id"
ABOUT = "clicks.json"


@dataclass(frozen=True)
class Meaning:
    """What columns mean, and how rows are split.

    label : the column of clicks; by default the kind's own. positive : labels of at least so much are clicks; None takes 0 and 1, or -1
        and 1, as they are. numeric, categorical, drop : columns.
    least : how often a value must occur in training to have an id of its own. time : a column by which rows are split in their order, 8 :
        1 : 1; None splits by chance, drawn by `seed`. It is no feature.
    """

    label: str | None = None
    positive: float | None = None
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    least: int = 1
    time: str | None = None
    seed: int = 0


@dataclass(frozen=True)
class Split:
    """Rows of one split, in the places `start` to `stop` of the arrays."""

    clicks: "Clicks"
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def batch(self, rows: npt.NDArray[np.integer] | slice) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Ids (b, fields) int32, numbers (b, k), labels (b,) of `rows`, counted from 0 in the split."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        at = np.asarray(rows) + self.start
        arrays = (self.clicks.ids, self.clicks.numbers, self.clicks.labels)
        ids, numbers, labels = (torch.from_numpy(np.ascontiguousarray(array[at])) for array in arrays)
        return ids, numbers, labels.float()


@dataclass(frozen=True)
class Clicks:
    """All rows: training first, then validation, then test.

    Attributes
    ----------
    fields : names. sizes : ids of each, with that of the unknown. counts : how often each occurs in training. numeric : names of numbers.
    rows : of each split. ids (n, fields), numbers (n, k), labels (n,). digest : of files and meaning.
    """

    fields: tuple[str, ...]
    sizes: tuple[int, ...]
    counts: list[torch.Tensor]
    numeric: tuple[str, ...]
    rows: tuple[int, int, int]
    ids: npt.NDArray[np.int32]
    numbers: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    digest: str

    def split(self, which: int) -> Split:
        """`TRAIN`, `VALIDATION` or `TEST`."""
        start = sum(self.rows[:which])
        return Split(self, start, start + self.rows[which])

    @classmethod
    def open(cls, folder: Path) -> "Clicks":
        """What `prepare` wrote into `folder`."""
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("ids", "numbers", "labels")]
        flat = torch.from_numpy(np.load(folder / "counts.npy"))
        parts = {name: tuple(about[name]) for name in ("fields", "sizes", "numeric", "rows")}
        ids, numbers, labels = arrays
        counts = list(torch.split(flat, about["sizes"]))
        return cls(**parts, counts=counts, ids=ids, numbers=numbers, labels=labels, digest=about["digest"])


def prepare(path: str | Path, meaning: Meaning, folder: Path, *, kind: str = "auto", test: str | Path | None = None) -> Clicks:
    """The rows of `path` in `folder`; taken from there if they are those already.

    test : a file of test rows; those of `path` are then split 9 : 1. Raises `InputError`s in one line: columns that are not there, labels
    that are none or of one class, a field of one value, ragged rows.
    """
    sources = [open_source(path, kind), *([open_source(test, kind)] if test is not None else [])]
    digest = hashlib.sha256(json.dumps([[sha256(one.path) for one in sources], kind, asdict(meaning)]).encode()).hexdigest()
    if (folder / ABOUT).is_file() and json.loads((folder / ABOUT).read_text("utf-8"))["digest"] == digest:
        return Clicks.open(folder)
    plan = Plan.of(sources, meaning)
    with atomic_directory(folder, overwrite=True) as partial:
        plan.write(partial, digest)
    return Clicks.open(folder)


@dataclass(frozen=True)
class Plan:
    """Columns told apart, and the values of fields counted."""

    sources: Sequence[Source]
    meaning: Meaning
    label: str
    fields: tuple[str, ...]
    numeric: tuple[str, ...]
    cuts: tuple[Any, Any] | None

    @classmethod
    def of(cls, sources: Sequence[Source], meaning: Meaning) -> "Plan":
        source = sources[0]
        label, time = meaning.label or source.label, meaning.time
        if label is None:
            raise InputError(f"{source.path}: name the column of clicks with --label; it has {', '.join(source.names[:20])}")
        for option, names in (("--label", [label]), ("--time", [time] if time else []), ("--numeric", meaning.numeric)):
            _check_names(source, option, names)
        for option, names in (("--categorical", meaning.categorical), ("--drop", meaning.drop)):
            _check_names(source, option, names)
        if len(sources) > 1 and (missing := [name for name in source.names if name not in sources[1].names]):
            raise InputError(f"{sources[1].path}: has no column {', '.join(missing)}, which {source.path} has")
        left = [n for n in source.names if n not in {label, time, source.time, *source.dropped, *meaning.drop}]
        numeric = _numeric(source, meaning, left)
        fields = tuple(name for name in left if name not in numeric)
        if not fields:
            raise InputError(f"{source.path}: no column is left that is a category: name some with --categorical")
        return cls(sources, meaning, label, fields, tuple(n for n in left if n in numeric), _cuts(source, time) if time else None)

    def write(self, folder: Path, digest: str) -> None:
        counted, rows = self._count()
        vocabularies = [one.vocabulary(self.meaning.least) for one in counted]
        sizes = [len(words) + 1 for words, _ in vocabularies]
        total = sum(rows)
        arrays = [
            open_memmap(folder / "ids.npy", mode="w+", dtype=np.int32, shape=(total, len(self.fields))),
            open_memmap(folder / "numbers.npy", mode="w+", dtype=np.float32, shape=(total, len(self.numeric))),
            open_memmap(folder / "labels.npy", mode="w+", dtype=np.uint8, shape=(total,)),
        ]
        at = [0, rows[0], rows[0] + rows[1]]
        with progress_bar("encoding", total=total, unit="rows") as bar:
            for block, split in self._blocks():
                ids = np.stack([_encoded(block[n], words) for n, (words, _) in zip(self.fields, vocabularies, strict=True)], 1)
                numbers = [self._numbers(block[name], name) for name in self.numeric]
                columns = (ids, np.stack(numbers, 1) if numbers else np.zeros((len(ids), 0)), self._labels(block))
                for which in range(3):
                    mine = split == which
                    for array, values in zip(arrays, columns, strict=True):
                        array[at[which] : at[which] + mine.sum()] = values[mine]
                    at[which] += int(mine.sum())
                bar.advance(len(ids))
        for array in arrays:
            array.flush()
        np.save(folder / "counts.npy", np.concatenate([counts for _, counts in vocabularies]))
        about = {"fields": self.fields, "sizes": sizes, "numeric": self.numeric, "rows": rows, "digest": digest}
        (folder / ABOUT).write_text(json.dumps(about), "utf-8")

    def _count(self) -> tuple[list[Counted], list[int]]:
        """Values of each field on training rows, and rows of each split."""
        counted, rows = [Counted() for _ in self.fields], [0, 0, 0]
        clicks = np.zeros((3, 2), dtype=np.int64)
        path = self.sources[0].path
        with progress_bar("counting values", unit="rows") as bar:
            for block, split in self._blocks():
                labels = self._labels(block)
                for which in range(3):
                    rows[which] += int((split == which).sum())
                    clicks[which] += np.bincount(labels[split == which], minlength=2)
                training = block.filter(pa.array(split == TRAIN))
                for one, name in zip(counted, self.fields, strict=True):
                    one.add(training[name])
                bar.advance(len(split))
        for which, name in enumerate(NAMES):
            if not rows[which]:
                raise InputError(f"{path}: no row is left for the {name} split: give more rows")
            if not clicks[which].all():
                raise InputError(
                    f"{path}: all labels of the {name} split are {int(clicks[which][1] > 0)}: both are needed (see --positive)"
                )
        for one, name in zip(counted, self.fields, strict=True):
            if len(one.vocabulary(1)[0]) < 2:
                raise InputError(f"{path}: {name} has one value in the training rows and tells nothing: leave it out with --drop {name}")
        return counted, rows

    def _blocks(self) -> Iterator[tuple[pa.Table, npt.NDArray[np.int8]]]:
        """Blocks of all files, with the split of each row; the same in each pass."""
        given = len(self.sources) > 1
        shares = (0.9, 0.1) if given else SHARES
        ends = np.cumsum(shares)[:-1]
        generator = np.random.default_rng(self.meaning.seed)
        for number, source in enumerate(self.sources):
            for block in source.blocks():
                if number:
                    split = np.full(block.num_rows, TEST)
                elif self.cuts is not None:
                    split = np.searchsorted(np.asarray(self.cuts[: len(ends)]), _times(block, self.meaning.time or ""), side="left")
                else:
                    split = np.searchsorted(ends, generator.random(block.num_rows), side="right")
                yield block, split.astype(np.int8)

    def _labels(self, block: pa.Table) -> npt.NDArray[np.uint8]:
        path, label, positive = self.sources[0].path, self.label, self.meaning.positive
        values = _as_numbers(block[label], f"{path}: label {label}", missing=np.nan)
        if np.isnan(values).any():
            raise InputError(f"{path}: a label in column {label} is missing or NaN: remove such rows")
        if positive is not None:
            return (values >= positive).astype(np.uint8)
        if not np.isin(values, (-1, 0, 1)).all():
            odd = values[~np.isin(values, (-1, 0, 1))][0]
            raise InputError(f"{path}: label {label} holds {odd:g}, not only 0 and 1: say from what on it is a click, as --positive 4")
        return (values > 0).astype(np.uint8)

    def _numbers(self, column: pa.ChunkedArray, name: str) -> npt.NDArray[np.float32]:
        """log(x + 1) of x > 0 (section 3 of the card); below 0 the same of -x, negative, unless the kind has none below 0."""
        values = _as_numbers(column, f"{self.sources[0].path}: column {name}", missing=0.0)
        if not np.isfinite(values).all():
            raise InputError(f"{self.sources[0].path}: column {name} holds infinity: repair it, or leave it out with --drop {name}")
        if self.sources[0].clipped:
            values = np.maximum(values, 0)
        return (np.sign(values) * np.log1p(np.abs(values))).astype(np.float32)


def _encoded(column: pa.ChunkedArray, words: pa.Array) -> npt.NDArray[np.int32]:
    found = pc.fill_null(pc.index_in(texts(column), value_set=words), -1)
    return np.asarray(found.to_numpy() + 1, dtype=np.int32)


def _as_numbers(column: pa.ChunkedArray, where: str, *, missing: float) -> npt.NDArray[np.float64]:
    """Numbers of a column; empty ones, and NaN, are `missing`. Raises `InputError` for what is none."""
    if pa.types.is_string(column.type):
        column = pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), None, pc.utf8_trim_whitespace(column))
    try:
        values = column.cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid as error:
        told = " ".join(str(error).split())[:100]
        raise InputError(f"{where} holds what is no number ({told}): name the column with --categorical, or repair it") from None
    return np.where(np.isnan(values), missing, values)


def _numeric(source: Source, meaning: Meaning, names: Sequence[str]) -> set[str]:
    """Columns of numbers: named ones, those that the file says are, and of whole numbers or text those with many different numbers."""
    found = (set(source.numeric) | set(meaning.numeric)) - set(meaning.categorical)
    open_ones = [n for n in names if n not in found and n not in source.categorical and n not in meaning.categorical]
    first = next(iter(source.blocks()), None)
    if first is None or not first.num_rows:
        raise InputError(f"{source.path}: has no rows")
    for name in open_ones:
        try:
            values = _as_numbers(first[name], "", missing=np.nan)
        except InputError:
            continue
        if not name.lower().endswith("id") and len(np.unique(values[~np.isnan(values)])) > MANY:
            found.add(name)
    return found & set(names)


def _times(block: pa.Table, name: str) -> npt.NDArray[np.float64]:
    """Times as numbers; texts of dates as seconds."""
    column = block[name]
    try:
        return _as_numbers(column, "", missing=np.nan)
    except InputError:
        pass
    try:
        return np.asarray(column.cast(pa.timestamp("s")).cast(pa.int64()).to_numpy(), dtype=np.float64)
    except pa.ArrowInvalid:
        raise InputError(f"--time {name}: holds neither numbers nor dates as 2024-05-31 or 2024-05-31 12:00:00") from None


def _cuts(source: Source, name: str) -> tuple[float, float]:
    """The last time of training rows, and of validation rows."""
    times = np.concatenate([_times(block, name) for block in source.blocks()])
    if np.isnan(times).any():
        raise InputError(f"{source.path}: column {name} has rows without a time: remove them")
    first, second = np.quantile(times, np.cumsum(SHARES)[:-1], method="lower")
    return float(first), float(second)


def _check_names(source: Source, option: str, names: Sequence[str]) -> None:
    for name in names:
        if name not in source.names:
            known = ", ".join(source.names[:20]) + (" ..." if len(source.names) > 20 else "")
            raise ParameterError(f"{option} {name}: {source.path} has no such column; it has {known}")
