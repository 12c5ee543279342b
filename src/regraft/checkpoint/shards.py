"""Safetensors files, read and rewritten without loading them.

Enters: a file. Leaves: where each tensor lies in it (after strict checks), tensors read one at a time with plain file reads, and a new
file in which some tensors are replaced and all other bytes are copied from file to file. Nothing is memory-mapped, so resident memory
stays what the caller holds.
"""

import errno
import json
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from regraft.errors import CheckpointError

CHUNK = 8 << 20  # bytes per read or write: large enough for full disk speed, small enough not to count as memory
MAX_HEADER = 100_000_000  # the safetensors format's own bound
TORCH_DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "U16": torch.uint16, "I32": torch.int32,
    "U32": torch.uint32, "I64": torch.int64, "U64": torch.uint64, "F16": torch.float16, "BF16": torch.bfloat16,
    "F32": torch.float32, "F64": torch.float64, "C64": torch.complex64, "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
BITS = {code: 8 * torch.empty((), dtype=dtype).element_size() for code, dtype in TORCH_DTYPES.items()}
BITS |= {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8}  # copied as bytes, never read
CODES = {dtype: code for code, dtype in TORCH_DTYPES.items()}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a stored tensor lies: `file`, format code of its dtype (``"BF16"``), `shape`, byte `offset` in the file and size `nbytes`."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int

    @property
    def torch_dtype(self) -> torch.dtype:
        if self.dtype not in TORCH_DTYPES:
            raise CheckpointError(f"{self.file}: PyTorch cannot read tensors stored as {self.dtype}")
        return TORCH_DTYPES[self.dtype]


@dataclass(frozen=True)
class Shard:
    """One safetensors file: `tensors` in the order of their bytes, the header's `metadata`, and the `header` itself."""

    path: Path
    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    header: bytes


@dataclass(frozen=True)
class Appended:
    """A stored tensor with new rows behind its old ones; the old rows are copied from file to file and never held in memory.

    `rows` has shape (m, d), or (m,) for a bias (also where the file stores it as (1, V)). `keep` is how many old rows stay in front
    (default all): rows past it, such as padding, are dropped.
    """

    rows: torch.Tensor
    keep: int | None = None


@dataclass(frozen=True)
class Blocks:
    """A tensor of `shape` and `dtype` given as an iterator over consecutive blocks of its rows."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    blocks: Callable[[], Iterator[torch.Tensor]]


@dataclass(frozen=True)
class Reshaped:
    """A whole tensor whose rows may have another width than those of the tensor it replaces."""

    value: torch.Tensor | Blocks

    @property
    def dtype(self) -> torch.dtype:
        return self.value.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)


Value = torch.Tensor | Appended | Blocks | Reshaped


def read_shard(path: Path) -> Shard:
    """Parse and check the header of a safetensors file.

    Raises `CheckpointError` unless every tensor's bytes lie inside the file, none overlap, no byte is left over, and each size is
    what dtype and shape say.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise CheckpointError(f"{path}: truncated or not a safetensors file ({size} bytes, header of {length}): fetch it again")
            if length > MAX_HEADER:
                raise CheckpointError(
                    f"{path}: header of {length} bytes is over the format's limit of {MAX_HEADER}: not a safetensors file"
                )
            header = file.read(length)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        if not header.startswith(b"{"):
            raise ValueError("header does not start with '{'")
        entries = json.loads(header.decode("utf-8"), object_pairs_hook=_unique)
        metadata = entries.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("__metadata__ is not a map of strings")
        tensors = {name: _parse_entry(path, name, entry, 8 + length) for name, entry in entries.items()}
        tensors = _check_cover(tensors, 8 + length, size)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: corrupted safetensors file ({error}): fetch it again") from None
    return Shard(path, tensors, metadata, header)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in the header")
    return found


def _parse_entry(path: Path, name: str, entry: Any, start: int) -> TensorInfo:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"entry of {name!r} is malformed") from None
    numbers = [*shape, begin, end] if isinstance(shape, list) else [None]
    if dtype not in BITS or not all(type(n) is int and 0 <= n < 1 << 63 for n in numbers):
        raise ValueError(f"entry of {name!r} is malformed")
    bits = BITS[dtype] * math.prod(shape)
    if bits != 8 * (end - begin):
        raise ValueError(f"{name!r} takes {end - begin} bytes, but {dtype} of shape {shape} needs {bits / 8:g}")
    return TensorInfo(path, dtype, tuple(shape), start + begin, end - begin)


def _check_cover(tensors: dict[str, TensorInfo], start: int, size: int) -> dict[str, TensorInfo]:
    """The tensors in the order of their bytes, which must cover the file from `start` to `size` without gap or overlap."""
    position = start
    ordered = sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].nbytes))
    for name, info in ordered:
        if info.offset != position:
            raise ValueError(f"{name!r} starts at byte {info.offset}, expected {position}")
        position += info.nbytes
    if position != size:
        raise ValueError(f"the tensors end at byte {position}, the file at {size}")
    return dict(ordered)


def read_tensor(info: TensorInfo) -> torch.Tensor:
    """The tensor as a fresh copy in memory, in its stored dtype."""
    tensor = torch.empty(info.shape, dtype=info.torch_dtype)
    if info.nbytes == 0:
        return tensor
    view = _bytes_of(tensor)
    with info.file.open("rb", buffering=0) as file:
        file.seek(info.offset)
        done = 0
        while done < info.nbytes:
            count = file.readinto(view[done : done + CHUNK])
            if not count:
                raise CheckpointError(f"{info.file}: became shorter while it was read")
            done += count
    return tensor


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous tensor, shared with it."""
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]  # an ndarray is a buffer


def read_rows(info: TensorInfo, start: int, stop: int) -> torch.Tensor:
    """Rows `start` to `stop` of a stored table, shape (stop - start, d)."""
    if not 0 <= start <= stop <= info.shape[0]:
        raise ValueError(f"rows {start}:{stop} of a table with {info.shape[0]} rows")
    width = info.nbytes // max(info.shape[0], 1)
    part = TensorInfo(info.file, info.dtype, (stop - start, *info.shape[1:]), info.offset + start * width, (stop - start) * width)
    return read_tensor(part)


def read_chunks(info: TensorInfo) -> Iterator[bytes]:
    """The tensor's bytes in chunks."""
    with info.file.open("rb", buffering=0) as file:
        file.seek(info.offset)
        left = info.nbytes
        while left and (chunk := file.read(min(CHUNK, left))):
            left -= len(chunk)
            yield chunk


def same_bytes(first: TensorInfo, second: TensorInfo) -> bool:
    """Whether two stored tensors agree in dtype, shape and every byte."""
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False
    return all(a == b for a, b in zip(read_chunks(first), read_chunks(second), strict=True))


@dataclass(frozen=True)
class Plan:
    """What a tensor of the new file is made of: bytes copied from the old one (`copied` from `offset`), then tensors in memory."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    copied: int
    memory: Callable[[], Iterator[torch.Tensor]]

    @property
    def nbytes(self) -> int:
        return BITS[self.dtype] * math.prod(self.shape) // 8


def plan_tensor(name: str, info: TensorInfo, value: Value) -> Plan:
    """Check `value` against the tensor it replaces: same dtype, same row shape (unless `Reshaped`); the number of rows may change.

    A bias of shape (V,) takes the stored shape (1, V) where that is how the file keeps it.
    """
    dtype = CODES[value.rows.dtype if isinstance(value, Appended) else value.dtype]
    if dtype != info.dtype:
        raise CheckpointError(f"{name}: stored as {info.dtype}, the new rows are {dtype}: cast them first")
    if isinstance(value, Reshaped):
        return Plan(dtype, value.shape, info.offset, 0, lambda: _in_memory(value))
    flat_bias = len(info.shape) == 2 and info.shape[0] == 1
    row = info.shape[2:] if flat_bias else info.shape[1:]
    old = info.shape[1] if flat_bias else info.shape[0]
    given = tuple(value.rows.shape) if isinstance(value, Appended) else tuple(value.shape)
    if flat_bias and given[:1] == (1,) and len(given) == 2:
        given = given[1:]
    if given[1:] != row:
        raise CheckpointError(f"{name}: new rows of shape {given} do not fit a tensor of shape {info.shape}")
    kept = 0
    if isinstance(value, Appended):
        kept = old if value.keep is None else value.keep
        if not 0 <= kept <= old:
            raise CheckpointError(f"{name}: cannot keep {kept} of {old} rows")
    rows = kept + given[0]
    shape = (1, rows) if flat_bias else (rows, *row)
    return Plan(dtype, shape, info.offset, kept * (info.nbytes // max(old, 1)), lambda: _in_memory(value))


def _in_memory(value: Value) -> Iterator[torch.Tensor]:
    if isinstance(value, Reshaped):
        yield from _in_memory(value.value)
    elif isinstance(value, Blocks):
        yield from value.blocks()
    else:
        yield value.rows if isinstance(value, Appended) else value


def rewrite_shard(
    shard: Shard, out: Path, plans: Mapping[str, Plan], added: Mapping[str, torch.Tensor] | None = None, dropped: Collection[str] = ()
) -> int:
    """Write a copy of `shard` to the new file `out`; returns its size in bytes.

    The tensors named in `plans` are replaced, those of `dropped` left out, and those of `added` put at the end.
    """
    added = added or {}
    kept = {name: info for name, info in shard.tensors.items() if name not in dropped}
    entries: dict[str, Any] = {"__metadata__": shard.metadata} if shard.metadata else {}
    position = 0
    shapes = [(name, (plans.get(name) or info).dtype, (plans.get(name) or info).shape) for name, info in kept.items()]
    for name, dtype, shape in [*shapes, *((name, CODES[tensor.dtype], tuple(tensor.shape)) for name, tensor in added.items())]:
        end = position + BITS[dtype] * math.prod(shape) // 8
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, end]}
        position = end
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    header += b" " * (-len(header) % 8)  # keeps the data aligned for readers that map the file
    with shard.path.open("rb", buffering=0) as source, out.open("xb", buffering=0) as target:
        write_all(target.fileno(), memoryview(len(header).to_bytes(8, "little") + header))
        for start, length, plan in _pieces(kept, plans):
            copy_range(source.fileno(), target.fileno(), start, length)
            if plan is not None:
                written = sum(write_tensor(target.fileno(), tensor, plan.dtype) for tensor in plan.memory())
                if plan.copied + written != plan.nbytes:
                    raise ValueError(f"blocks gave {written} bytes for a tensor that needs {plan.nbytes - plan.copied}")
        for tensor in added.values():
            write_tensor(target.fileno(), tensor, CODES[tensor.dtype])
        return os.fstat(target.fileno()).st_size


def _pieces(tensors: Mapping[str, TensorInfo], plans: Mapping[str, Plan]) -> Iterator[tuple[int, int, Plan | None]]:
    """The new file's data as (offset in the old file, bytes to copy from there, tensor to write after them); neighbors are joined."""
    start = length = 0
    for name, info in tensors.items():
        if length == 0 or start + length != info.offset:
            yield start, length, None
            start, length = info.offset, 0
        if (plan := plans.get(name)) is None:
            length += info.nbytes
        else:
            yield start, length + plan.copied, plan
            start, length = info.offset + info.nbytes, 0
    yield start, length, None


def write_tensor(target: int, tensor: torch.Tensor, dtype: str, rows: int = 4096) -> int:
    if CODES[tensor.dtype] != dtype:
        raise ValueError(f"a block is {CODES[tensor.dtype]}, its tensor {dtype}")
    if tensor.numel() == 0:
        return 0
    parts = [tensor] if tensor.is_contiguous() and tensor.device.type == "cpu" else torch.split(tensor, rows)
    for part in parts:
        write_all(target, _bytes_of(part.detach().cpu().contiguous()))
    return tensor.numel() * tensor.element_size()


def write_all(target: int, view: memoryview) -> None:
    """`os.write` until every byte is out."""
    done = 0
    while done < len(view):
        done += os.write(target, view[done : done + CHUNK])


def copy_range(source: int, target: int, start: int, length: int) -> None:
    """Append bytes `start` to ``start + length`` of `source` to `target`, inside the kernel where it can."""
    in_kernel = hasattr(os, "copy_file_range")
    while length:
        count = 0
        if in_kernel:
            try:
                count = os.copy_file_range(source, target, min(length, 16 * CHUNK), offset_src=start)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM):
                    raise
            in_kernel = count > 0
        if not count:
            os.lseek(source, start, os.SEEK_SET)
            chunk = os.read(source, min(length, CHUNK))
            if not chunk:
                raise CheckpointError("a shard of the source became shorter while it was copied")
            write_all(target, memoryview(chunk))
            count = len(chunk)
        start, length = start + count, length - count
