"""Rows that are read block by block, as often as needed, in bounded memory.

Enters: an array or tensor, a .npy, .safetensors or .parquet file. Leaves: `Rows`. No pickle is ever loaded.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from regraft.checkpoint.shards import TensorInfo, read_rows, read_shard
from regraft.errors import InputError, ParameterError

ENTRIES = 1 << 20  # numbers in a block: 8 MiB in float64; of blocks of 32 MiB the C library keeps what is freed, and memory grows
FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class Rows:
    """A matrix that need not fit into memory.

    Attributes
    ----------
    name : for messages and tables. count, dim : N and K. read : rows `start` to `stop` as a tensor of any real type.
    """

    name: str
    count: int
    dim: int
    read: Callable[[int, int], torch.Tensor]

    def blocks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """First row and rows (n, K) of each block, in order."""
        size = max(1, ENTRIES // self.dim)
        for start in range(0, self.count, size):
            yield start, self.read(start, min(start + size, self.count))


def as_rows(given: Any, name: str = "rows") -> Rows:
    """`Rows` of an array or tensor (N, K), or as they are. Raises `ParameterError` for what is neither."""
    if isinstance(given, Rows):
        return given
    try:
        tensor = given.detach() if isinstance(given, torch.Tensor) else None
        array = given if tensor is not None else np.asarray(given)
        shape = tuple(array.shape)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{name}: not an array of numbers ({' '.join(str(error).split())})") from None
    if len(shape) != 2 or not all(shape) or (tensor is None and array.dtype.kind not in "fiub"):
        raise ParameterError(f"{name}: of shape {shape} and type {array.dtype}: give real numbers of shape (rows, columns)")
    if tensor is not None:
        return Rows(name, *shape, lambda start, stop: tensor[start:stop].cpu())
    return Rows(name, *shape, lambda start, stop: torch.from_numpy(np.ascontiguousarray(array[start:stop])))


def open_rows(path: Path, key: str | None = None) -> Rows:
    """The matrix of a file. `key` names a tensor of a .safetensors, or a column of lists of a .parquet.

    Raises `InputError` in one line: no such file, another kind of file, a damaged one, not a matrix of numbers, or several to choose from.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file: give a checkpoint, or one of .npy, .safetensors and .parquet")
    kinds = {".npy": _open_npy, ".safetensors": _open_safetensors, ".parquet": _open_parquet}
    if path.suffix not in kinds:
        raise InputError(f"{path}: not a kind of file that holds rows: give a checkpoint directory, or one of {', '.join(kinds)}")
    found = kinds[path.suffix](path, key)
    if not found.count or not found.dim:
        raise InputError(f"{path}: {found.count} rows of {found.dim} columns: there is nothing to measure")
    return found


def _open_npy(path: Path, key: str | None) -> Rows:
    """Memory-mapped, one block at a time: pages of a map that stays open would count as memory."""
    if key is not None:
        raise InputError(f"{path}: --key {key}: a .npy holds one array, so leave --key out")
    try:
        with path.open("rb") as file:
            known = file.read(6) == b"\x93NUMPY"
        if not known:
            raise InputError(f"{path}: cannot be read as .npy (it does not begin as one): save the array with numpy.save")
        whole = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"{path}: cannot be read as .npy ({said}): save a plain array of numbers with numpy.save") from None
    _check(path, whole.shape, whole.dtype.kind in "fiu", str(whole.dtype))
    count, dim = whole.shape
    dtype, offset, in_rows = whole.dtype, int(whole.offset), bool(whole.flags.c_contiguous)
    del whole

    def read(start: int, stop: int) -> torch.Tensor:
        if in_rows:
            at = offset + start * dim * dtype.itemsize
            part: npt.NDArray[Any] = np.memmap(path, dtype=dtype, mode="r", offset=at, shape=(stop - start, dim))
        else:
            part = np.load(path, mmap_mode="r", allow_pickle=False)[start:stop]
        return torch.from_numpy(np.array(part, dtype=dtype.newbyteorder("="), order="C"))

    return Rows(path.name, count, dim, read)


def _open_safetensors(path: Path, key: str | None) -> Rows:
    tensors = read_shard(path).tensors
    if key is None:
        matrices = [name for name, info in tensors.items() if len(info.shape) == 2 and info.dtype in FLOATS]
        if len(matrices) != 1:
            some = ", ".join(sorted(matrices)[:5]) + (", ..." if len(matrices) > 5 else "") or "none"
            raise InputError(f"{path}: {len(matrices)} tensors with two axes ({some}): name one with --key")
        key = matrices[0]
    if key not in tensors:
        raise InputError(f"{path}: has no tensor '{key}': it has {', '.join(sorted(tensors)[:5])}{', ...' if len(tensors) > 5 else ''}")
    return tensor_rows(tensors[key], f"{path.name} {key}")


def tensor_rows(info: TensorInfo, name: str) -> Rows:
    """A stored tensor (N, K) in any floating type. Raises `InputError` for another shape or type."""
    _check(info.file, info.shape, info.dtype in FLOATS, info.dtype)
    return Rows(name, info.shape[0], info.shape[1], lambda start, stop: read_rows(info, start, stop))


def _open_parquet(path: Path, key: str | None) -> Rows:
    """One column of lists, or all columns as numbers; row groups are read as they are needed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise InputError(f"{path}: reading it needs the package pyarrow: pip install 'regraft[data]'") from None
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet ({' '.join(str(error).split())}): write it anew") from None
    schema = file.schema_arrow
    lists = [field.name for field in schema if pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type)]
    if key is not None and key not in schema.names:
        raise InputError(f"{path}: has no column '{key}': it has {', '.join(schema.names[:5])}")
    columns = [key] if key is not None else lists if len(lists) == 1 else list(schema.names)
    listed = columns[0] in lists
    numbers = all(pa.types.is_floating(t) or pa.types.is_integer(t) for t in (schema.field(name).type for name in columns))
    if not (listed and len(columns) == 1) and not numbers:
        raise InputError(f"{path}: its columns are not all numbers: name one column of lists with --key")
    starts = np.cumsum([0, *(file.metadata.row_group(g).num_rows for g in range(file.num_row_groups))])
    loaded: dict[int, npt.NDArray[Any]] = {}

    def group(number: int) -> npt.NDArray[Any]:
        if number not in loaded:
            loaded.clear()
            loaded[number] = _matrix(file.read_row_group(number, columns=columns), columns, listed, path)
        return loaded[number]

    def read(start: int, stop: int) -> torch.Tensor:
        first, last = (int(np.searchsorted(starts, at, side="right")) - 1 for at in (start, stop - 1))
        parts = [group(g)[max(start - starts[g], 0) : stop - starts[g]] for g in range(first, last + 1)]
        if len({part.shape[1] for part in parts}) > 1:
            raise InputError(f"{path}: lists of different lengths in '{columns[0]}'")
        return torch.from_numpy(np.concatenate(parts))

    count = int(starts[-1])
    return Rows(path.name, count, int(group(0).shape[1]) if count else 0, read)


def _matrix(table: Any, columns: list[str], listed: bool, path: Path) -> npt.NDArray[Any]:
    """A row group as (rows, columns); what is missing becomes NaN and is named later."""
    if not listed:
        return np.stack([np.asarray(table.column(name).to_numpy(), dtype=np.float64) for name in columns], 1)
    column = table.column(columns[0]).combine_chunks()
    flat = np.asarray(column.flatten().to_numpy(zero_copy_only=False), dtype=np.float64)
    width = len(flat) // max(len(column), 1)
    lengths = np.asarray(column.value_lengths().to_numpy(zero_copy_only=False), dtype=np.float64)
    if column.null_count or (lengths != width).any() or math.prod((len(column), width)) != len(flat):
        raise InputError(f"{path}: lists of different lengths in '{columns[0]}': give each row as many numbers as the others")
    return flat.reshape(len(column), width)


def _check(path: Path, shape: tuple[int, ...], numbers: bool, dtype: str) -> None:
    if len(shape) != 2 or not numbers:
        raise InputError(f"{path}: of shape {tuple(shape)} and type {dtype}: give numbers of shape (rows, columns)")
