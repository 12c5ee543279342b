"""A checkpoint whose tensors are others: other names, more or fewer of them, other shapes.

Enters: a source, and for each tensor of the result where its bytes lie in the source, or how its values are made. Leaves: a directory that
appears whole or not at all. Files that would hold the same tensors under the same names are linked; bytes that stay are copied from file to
file; values are made one tensor at a time, so that memory holds one tensor and never the model.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from regraft.checkpoint.architecture import Architecture, load_config
from regraft.checkpoint.files import Checkpoint, WriteReport, dump, take_over, write_texts
from regraft.checkpoint.locate import INDEX
from regraft.checkpoint.shards import BITS, CODES, Blocks, TensorInfo, copy_range, write_all, write_tensor
from regraft.errors import CheckpointError
from regraft.output import atomic_directory, check_space, fsync, link_or_copy

SHARD_BYTES = 5 << 30
Piece = TensorInfo | Blocks


def rebuild(
    checkpoint: Checkpoint,
    out: str | Path,
    pieces: Mapping[str, Piece],
    config: Mapping[str, Any],
    *,
    files: Mapping[str, bytes | None] | None = None,
    record: Callable[[Path, Sequence[str]], None] | None = None,
    overwrite: bool = False,
    link: bool = True,
    shard_bytes: int = SHARD_BYTES,
) -> WriteReport:
    """Write a checkpoint of `config` that holds `pieces`, by name in the order of the files, to the directory `out`.

    Parameters
    ----------
    pieces : a tensor of the source as it is (`TensorInfo`), or one that is made, block by block (`Blocks`).
    files : further files to write, or with None to leave out. All other files of the source that hold no weights are taken over.
    record : called last, with the temporary directory and the names of the files that are not the source's.
    shard_bytes : largest file, where more than one tensor is in it.

    Before anything is written, plain `transformers` builds the config without weights, and each name and shape is held against it.

    Raises `CheckpointError` for tensors that do not fit the config, `OutputError` (see `atomic_directory`).
    """
    start = time.perf_counter()
    check_complete(checkpoint, pieces, config)
    kept = _kept_files(checkpoint, pieces) if link else []
    left = [name for name in pieces if not any(name in checkpoint.shards[file].tensors for file in kept)]
    groups = _grouped({name: pieces[name] for name in left}, shard_bytes)
    total = len(kept) + len(groups)
    names = ["model.safetensors"] if total == 1 else [f"model-{n + 1:05}-of-{total:05}.safetensors" for n in range(total)]
    holds = [list(checkpoint.shards[file].tensors) for file in kept] + groups
    texts = {"config.json": dump(config), INDEX: None if total == 1 else _index(pieces, names, holds)} | dict(files or {})
    inside = checkpoint.path.relative_to(checkpoint.root)
    with atomic_directory(out, overwrite=overwrite, sources=(checkpoint.root,)) as temporary, ThreadPoolExecutor(1) as background:
        check_space(temporary, sum(_nbytes(pieces[name]) for name in left))
        skipped = {inside / name for name in [*texts, *checkpoint.shards]}
        linked, copied, left_out, size = take_over(checkpoint, temporary, skipped, link)
        folder = temporary / inside
        folder.mkdir(parents=True, exist_ok=True)
        for file, name in zip(kept, names, strict=False):
            how = link_or_copy(checkpoint.shards[file].path, folder / name)
            linked, copied = linked + (how == "linked"), copied + (how != "linked")
        flushes = []
        for group, name in zip(groups, names[len(kept) :], strict=True):
            size += _write_shard(folder / name, {one: pieces[one] for one in group})
            flushes.append(background.submit(fsync, folder / name))
        size += write_texts(folder, texts)
        if record is not None:
            new = [*names[len(kept) :], *(name for name, text in texts.items() if text is not None)]
            record(temporary, sorted((inside / name).as_posix() for name in new))
        for flush in flushes:
            flush.result()
    return WriteReport(size, linked, copied, time.perf_counter() - start, tuple(names[len(kept) :]), tuple(left_out))


def check_complete(checkpoint: Checkpoint, pieces: Mapping[str, Piece], config: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` unless the architecture of `config` finds what it found in the source, each tensor in its shape."""
    import tempfile

    before = Architecture(checkpoint.path, checkpoint.config)
    with tempfile.TemporaryDirectory(prefix="regraft-") as folder:
        (Path(folder) / "config.json").write_bytes(dump(config))
        after = Architecture(checkpoint.path, config, load_config(Path(folder), config))
    called = after.names_of(pieces)
    for name, one in called.items():
        if not one.packed and tuple(pieces[name].shape) != after.shapes[one.name]:
            raise CheckpointError(
                f"{checkpoint.path}: {name} would be {tuple(pieces[name].shape)}, but transformers builds {after.shapes[one.name]} for it"
            )
    found = {one.name for one in called.values()}
    wont = before.shapes.keys() - {one.name for one in before.names_of(checkpoint.tensors).values()}  # tied heads, buffers
    missing = sorted(after.shapes.keys() - found - wont)
    if missing:
        raise CheckpointError(f"{checkpoint.path}: the new config asks for {missing[0]} ({len(missing)} in all), which nothing here makes")


def _kept_files(checkpoint: Checkpoint, pieces: Mapping[str, Piece]) -> list[str]:
    """Files all of whose tensors stay as they are, under their names."""
    return [
        file for file, shard in checkpoint.shards.items() if all(pieces.get(name) == info for name, info in shard.tensors.items())
    ]  # fmt: skip


def _nbytes(piece: Piece) -> int:
    return piece.nbytes if isinstance(piece, TensorInfo) else BITS[_code(piece)] * math.prod(piece.shape) // 8


def _code(piece: Piece) -> str:
    return piece.dtype if isinstance(piece, TensorInfo) else CODES[piece.dtype]


def _grouped(pieces: Mapping[str, Piece], largest: int) -> list[list[str]]:
    groups: list[list[str]] = []
    room = 0
    for name, piece in pieces.items():
        if not groups or _nbytes(piece) > room:
            groups.append([])
            room = largest
        groups[-1].append(name)
        room -= _nbytes(piece)
    return groups


def _index(pieces: Mapping[str, Piece], names: Sequence[str], holds: Sequence[Sequence[str]]) -> bytes:
    where = {tensor: name for name, held in zip(names, holds, strict=True) for tensor in held}
    return dump({"metadata": {"total_size": sum(map(_nbytes, pieces.values()))}, "weight_map": where})


def _write_shard(path: Path, pieces: Mapping[str, Piece]) -> int:
    """Write `pieces` to a new safetensors file; returns its size."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, piece in pieces.items():
        end = position + _nbytes(piece)
        entries[name] = {"dtype": _code(piece), "shape": list(piece.shape), "data_offsets": [position, end]}
        position = end
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    header += b" " * (-len(header) % 8)
    sources: dict[Path, int] = {}
    try:
        with path.open("xb", buffering=0) as target:
            write_all(target.fileno(), memoryview(len(header).to_bytes(8, "little") + header))
            for start, length, file, made in _runs(pieces):
                if made is not None:
                    written = sum(write_tensor(target.fileno(), block, CODES[made.dtype]) for block in made.blocks())
                    if written != _nbytes(made):
                        raise ValueError(f"blocks gave {written} bytes for a tensor that needs {_nbytes(made)}")
                elif file is not None:
                    if file not in sources:
                        sources[file] = os.open(file, os.O_RDONLY)
                    copy_range(sources[file], target.fileno(), start, length)
            return os.fstat(target.fileno()).st_size
    finally:
        for descriptor in sources.values():
            os.close(descriptor)


def _runs(pieces: Mapping[str, Piece]) -> list[tuple[int, int, Path | None, Blocks | None]]:
    """(offset, length, file, made): bytes to copy, neighbors joined, or a tensor to make."""
    runs: list[tuple[int, int, Path | None, Blocks | None]] = []
    for piece in pieces.values():
        if isinstance(piece, Blocks):
            runs.append((0, 0, None, piece))
        elif runs and runs[-1][2] == piece.file and runs[-1][0] + runs[-1][1] == piece.offset:
            runs[-1] = (runs[-1][0], runs[-1][1] + piece.nbytes, piece.file, None)
        else:
            runs.append((piece.offset, piece.nbytes, piece.file, None))
    return runs
