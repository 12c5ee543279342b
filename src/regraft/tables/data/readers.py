"""Files of clicks as blocks of columns, one block in memory at a time.

Enters: a path and what kind it is. Leaves: blocks (`pyarrow.Table`) of columns, texts except where a file says that they are numbers; which
column is the label, the time, or no feature, where the kind says so.
"""

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from regraft.errors import InputError

BLOCK = 1 << 24  # bytes of text
ROWS = 1 << 17  # of Parquet
INTEGERS, CATEGORIES = 13, 26  # of Criteo


@dataclass(frozen=True)
class Source:
    """A file of rows.

    Attributes
    ----------
    names : of all columns, in their order. blocks : reads the file anew. label, time : columns, where the kind has them by a fixed name.
    numeric, categorical : columns that are known to be so. dropped : those that are no features. clipped : whether numbers below 0 are 0.
    """

    path: Path
    names: tuple[str, ...]
    blocks: Callable[[], Iterator[pa.Table]]
    label: str | None = None
    time: str | None = None
    numeric: frozenset[str] = frozenset()
    categorical: frozenset[str] = frozenset()
    dropped: frozenset[str] = field(default_factory=frozenset)
    clipped: bool = False


def open_source(path: str | Path, kind: str = "auto") -> Source:
    """The file at `path`. Raises `InputError`: nothing there, empty, a kind that is not known or not what the file is."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file: give a file of rows ({', '.join(KINDS)})")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: is empty")
    kind = kind if kind != "auto" else kind_of(path)
    if kind not in KINDS:
        raise InputError(f"--format {kind}: choose auto, {', '.join(KINDS)}")
    return KINDS[kind](path)


def kind_of(path: Path) -> str:
    """The kind that the name and the first line of a file speak for."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    last = next((suffix for suffix in reversed(suffixes) if suffix not in (".gz", ".bz2", ".zst")), "")
    if last in (".parquet", ".pq"):
        return "parquet"
    if last in (".libfm", ".libsvm", ".svm"):
        return "libfm"
    if last == ".inter":
        return "recbole"
    first = first_line(path)
    if path.name == "u.data" or path.name.endswith("ratings.dat"):
        return "movielens"
    if first.count("\t") == INTEGERS + CATEGORIES and first.split("\t")[0] in ("0", "1"):
        return "criteo"
    if first.startswith("id,click,hour"):
        return "avazu"
    return "tsv" if last == ".tsv" or (last != ".csv" and "\t" in first) else "csv"


def first_line(path: Path) -> str:
    """Raises `InputError` for what is no text."""
    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            return bytes(stream.read(1 << 16)).split(b"\n")[0].decode("utf-8-sig").rstrip("\r")
    except (UnicodeDecodeError, OSError, pa.ArrowInvalid):
        raise InputError(f"{path}: is neither text in UTF-8 nor Parquet: name its kind with --format") from None


def _delimited(path: Path, delimiter: str, names: list[str] | None = None, *, quoted: bool = True) -> Source:
    if names is None:
        header = next(csv.reader([first_line(path)], delimiter=delimiter))
        twice = {name for name in header if header.count(name) > 1}
        if twice or not all(header):
            raise InputError(f"{path}: the header names {', '.join(sorted(twice)) or 'a column by nothing'} twice or not at all")
    known = names or header

    def blocks() -> Iterator[pa.Table]:
        rows = 0 if names else 1
        try:
            reader = pacsv.open_csv(
                str(path),
                read_options=pacsv.ReadOptions(block_size=BLOCK, column_names=known, skip_rows=0 if names else 1),
                parse_options=pacsv.ParseOptions(delimiter=delimiter, quote_char='"' if quoted else False),
                convert_options=pacsv.ConvertOptions(column_types=dict.fromkeys(known, pa.string()), strings_can_be_null=False),
            )
            for batch in reader:
                rows += batch.num_rows
                yield pa.Table.from_batches([batch])
        except pa.ArrowInvalid as error:
            told = " ".join(str(error).split())[:160]
            raise InputError(f"{path}: after line {rows:,}: {told}: repair the row, or name the file's kind with --format") from None

    return Source(path, tuple(known), blocks)


def read_csv(path: Path) -> Source:
    """Commas and a header."""
    return _delimited(path, ",")


def read_tsv(path: Path) -> Source:
    """Tabs and a header."""
    return _delimited(path, "\t")


def read_parquet(path: Path) -> Source:
    """Whole and real numbers are what they are; all else is text."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError):
        raise InputError(f"{path}: is no Parquet file, or damaged") from None

    def blocks() -> Iterator[pa.Table]:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS):
                table = pa.Table.from_batches([batch])
                yield pa.table({name: as_told(table[name]) for name in table.column_names})

    kinds = {item.name: item.type for item in schema}
    real = frozenset(name for name, kind in kinds.items() if pa.types.is_floating(kind) or pa.types.is_decimal(kind))
    words = frozenset(name for name, kind in kinds.items() if not (name in real or pa.types.is_integer(kind) or pa.types.is_boolean(kind)))
    return Source(path, tuple(schema.names), blocks, numeric=real, categorical=words)


def as_told(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as text or numbers; true and false as 1 and 0."""
    kind = column.type
    if pa.types.is_boolean(kind):
        return column.cast(pa.int8())
    return column if pa.types.is_floating(kind) or pa.types.is_integer(kind) else column.cast(pa.string())


def read_criteo(path: Path) -> Source:
    """No header: the label, 13 whole numbers, 26 categories; numbers below 0 count as 0, as the paper has it."""
    numbers, words = [f"I{n}" for n in range(1, INTEGERS + 1)], [f"C{n}" for n in range(1, CATEGORIES + 1)]
    plain = _delimited(path, "\t", ["label", *numbers, *words], quoted=False)
    return replace(plain, label="label", numeric=frozenset(numbers), categorical=frozenset(words), clipped=True)


def read_avazu(path: Path) -> Source:
    """All columns are categories; the hour is the time too, and of it the hour of the day is a feature."""
    plain = read_csv(path)
    missing = {"click", "hour"} - set(plain.names)
    if missing:
        raise InputError(f"{path}: has no column {', '.join(sorted(missing))}: that is not Avazu's file")

    def blocks() -> Iterator[pa.Table]:
        for block in plain.blocks():
            yield block.append_column("hour_of_day", pc.utf8_slice_codeunits(block["hour"], 6, 8))

    names = (*plain.names, "hour_of_day")
    return replace(
        plain,
        names=names,
        blocks=blocks,
        label="click",
        time="hour",
        dropped=frozenset({"id"}),
        categorical=frozenset(names) - {"click", "id", "hour"},
    )


def read_libfm(path: Path) -> Source:
    """A label and as many `id:1` a line: field k is what stands k-th."""
    first = first_line(path).split()
    names = ["label", *(f"field{place}" for place in range(1, len(first)))]
    plain = _delimited(path, " ", names, quoted=False)
    if len(names) < 2 or not all(":" in one for one in first[1:]):
        raise InputError(f"{path}: the first line is not `label id:1 id:1 ...`: name the file's kind with --format")

    def blocks() -> Iterator[pa.Table]:
        for block in plain.blocks():
            columns = {"label": block["label"]}
            for name in names[1:]:
                if not pc.all(pc.ends_with(block[name], ":1")).as_py():
                    raise InputError(f"{path}: {name} holds something else than `id:1`: only ids are read from libFM files")
                columns[name] = pc.utf8_slice_codeunits(block[name], 0, -2)
            yield pa.table(columns)

    return replace(plain, blocks=blocks, label="label", categorical=frozenset(names[1:]))


def read_movielens(path: Path) -> Source:
    """`u.data` of ml-100k: user, item, rating, time; what `u.user` beside it says of users joins in."""
    plain = _delimited(path, "\t", ["user", "item", "rating", "timestamp"], quoted=False)
    beside = path.with_name("u.user")
    about = _delimited(beside, "|", ["user", "age", "gender", "occupation", "zip"], quoted=False) if beside.is_file() else None
    return _joined(replace(plain, label="rating", time="timestamp", categorical=frozenset({"user", "item"})), {"user": about})


def read_recbole(path: Path) -> Source:
    """Atomic files, whose header says what each column is; `.user` and `.item` beside an `.inter` join in."""
    plain = _atomic(path)
    label = next((name for name in ("label", "click", "rating") if name in plain.names), None)
    time = "timestamp" if "timestamp" in plain.names else None
    sides = {kind: path.with_suffix(f".{kind}") for kind in ("user", "item")}
    return _joined(replace(plain, label=label, time=time), {f"{kind}_id": _atomic(side) for kind, side in sides.items() if side.is_file()})


def _atomic(path: Path) -> Source:
    header = first_line(path).split("\t")
    if not all(":" in name for name in header):
        raise InputError(f"{path}: the header has columns without a kind (rating:float): that is no atomic file of RecBole")
    plain = _delimited(path, "\t", quoted=False)
    names = [name.rpartition(":")[0] for name in header]
    kinds = {name: written.rpartition(":")[2] for name, written in zip(names, header, strict=True)}

    def blocks() -> Iterator[pa.Table]:
        return (block.rename_columns(names) for block in plain.blocks())

    return replace(
        plain,
        names=tuple(names),
        blocks=blocks,
        numeric=frozenset(name for name, kind in kinds.items() if kind == "float"),
        categorical=frozenset(name for name, kind in kinds.items() if kind == "token"),
        dropped=frozenset(name for name, kind in kinds.items() if kind.endswith("_seq")),
    )


def _joined(source: Source, sides: Mapping[str, Source | None]) -> Source:
    """`source` with the columns of small files that say more about what stands in a column of its own."""
    held = {}
    for key, side in sides.items():
        if side is None or key not in source.names:
            continue
        held[key] = table = pa.concat_tables(side.blocks())
        source = replace(
            source,
            names=(*source.names, *(name for name in side.names if name != key)),
            numeric=source.numeric | (side.numeric - {key}),
            categorical=source.categorical | side.categorical,
            dropped=source.dropped | side.dropped,
        )
        if key not in table.column_names:
            raise InputError(f"{side.path}: has no column {key}")
    read = source.blocks

    def blocks() -> Iterator[pa.Table]:
        for block in read():
            for key, table in held.items():
                found = pc.index_in(block[key], value_set=table[key].combine_chunks())
                for name in table.column_names:
                    if name != key:
                        block = block.append_column(name, pc.fill_null(table[name].take(found), ""))
            yield block

    return replace(source, blocks=blocks)


KINDS: dict[str, Callable[[Path], Source]] = {
    "csv": read_csv,
    "tsv": read_tsv,
    "parquet": read_parquet,
    "criteo": read_criteo,
    "avazu": read_avazu,
    "libfm": read_libfm,
    "movielens": read_movielens,
    "recbole": read_recbole,
}
