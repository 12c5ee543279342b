"""Hugging Face checkpoints: opened without loading weights, written shard by shard.

Enters: a local directory or a Hub id. Leaves: a `Checkpoint` that knows where each tensor lies and which ones belong to the vocabulary
(`layout`), and, from `write`, a new directory in which only the shards with a changed tensor were rewritten. The cost follows the change,
not the model. No pickle is ever loaded and no code of a checkpoint is ever run.
"""

import copy
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from regraft.checkpoint.fitting import check_fits
from regraft.checkpoint.ids import ID_FILES, move_ids
from regraft.checkpoint.layout import Layout, find_layout
from regraft.checkpoint.locate import INDEX, locate, read_json, read_shards, transformer_folder, why_no_config
from regraft.checkpoint.shards import (
    CHUNK,
    Plan,
    Shard,
    TensorInfo,
    Value,
    plan_tensor,
    read_chunks,
    read_rows,
    read_tensor,
    rewrite_shard,
    same_bytes,
)  # fmt: skip
from regraft.errors import CheckpointError
from regraft.graft.factors import KEY
from regraft.output import atomic_directory, check_space, fsync, link_or_copy

# The same weights in formats that are not rewritten: beside new tables they would be a model with the old vocabulary.
OTHER_WEIGHTS = re.compile(
    r"(pytorch_model.*\.bin(\.index\.json)?|tf_model.*|flax_model.*|rust_model\.ot|.*\.(onnx|gguf|pth|pt|ckpt)|consolidated.*|"
    r".*\.safetensors|.*\.safetensors\.index\.json)"
)
OTHER_WEIGHT_FOLDERS = {"onnx", "openvino", "coreml", "original", "gguf"}
NOT_CONTENT = {".git", ".cache", "__pycache__"}
SAMPLES = 64  # blocks of a big tensor that enter the content id


@dataclass(frozen=True)
class Checkpoint:
    """A model directory.

    Attributes
    ----------
    path : folder with config.json and the weights.
    root : the whole checkpoint: `path`, or for some sentence-transformers folders its parent.
    id, revision : the Hub id it came from, if it did.
    config : config.json as stored.
    tensors : every stored tensor by name, in file order.
    shards : the files that hold them, by file name.
    index : model.safetensors.index.json, if there is one.
    """

    path: Path
    root: Path
    config: dict[str, Any]
    tensors: dict[str, TensorInfo]
    shards: dict[str, Shard] = field(repr=False)
    index: dict[str, Any] | None = field(default=None, repr=False)
    id: str | None = None
    revision: str | None = None

    @classmethod
    def open(
        cls, path_or_id: str | Path, *, revision: str | None = None, factorised: bool = False, vocabulary: bool = False
    ) -> "Checkpoint":
        """Open a local directory, or a Hub id (from the cache, else downloaded).

        With `factorised`, its tables may be held as two factors; `layout.dim` is then their rank. With `vocabulary`, `layout` is found at
        once, so that a model without one, or with one that is unclear, is refused here.

        Raises `CheckpointError` in one line: nothing there, only pickles or GGUF, a damaged or missing shard, an index that names
        what is not there, tensors that contradict config.json, or factorised tables that were not asked for.
        """
        root, hub_id = locate(path_or_id, revision)
        path = transformer_folder(root)
        config = read_json(path / "config.json", why_no_config(path))
        if config.get(KEY) and not factorised:
            raise CheckpointError(f"{path}: its tables are factorised: make an ordinary checkpoint with `regraft export {path} --out DIR`")
        shards, index = read_shards(path)
        tensors = {name: info for shard in shards.values() for name, info in shard.tensors.items()}
        opened = cls(path, root, config, tensors, shards, index, hub_id, revision)
        if vocabulary:
            opened.layout  # noqa: B018  # found now
        return opened

    @cached_property
    def layout(self) -> Layout:
        """Which tensors are over the vocabulary, found on first use. Raises `CheckpointError`; see `find_layout`."""
        return find_layout(self.path, self.config, self.tensors, lambda a, b: same_bytes(self.tensors[a], self.tensors[b]))

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Names of the tensors over the vocabulary, the input table first; none for a model that has no vocabulary."""
        try:
            return self.layout.names
        except CheckpointError:
            return ()

    def id_files(self) -> dict[str, dict[str, Any]]:
        """Content of the JSON files that store ids of tokens, by name; config.json is one of them."""
        found = {name: read_json(self.path / name, "") for name in ID_FILES if (self.path / name).is_file()}
        return {"config.json": self.config} | found

    def read(self, name: str) -> torch.Tensor:
        """The tensor `name` as a copy in memory, in its stored dtype."""
        return read_tensor(self._info(name))

    def read_rows(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Rows `start` to `stop` of a table, shape (stop - start, d), without reading the others."""
        return read_rows(self._info(name), start, stop)

    def _info(self, name: str) -> TensorInfo:
        if name not in self.tensors:
            raise CheckpointError(f"{self.path}: has no tensor {name}")
        return self.tensors[name]

    def source_hash(self) -> str:
        """A content id: "sha256:..." over config, tokenizer files, shard headers, tables, and blocks of every other tensor.

        Training any layer, or changing any row of a table of up to 256 MiB, changes it. It reads some MB of each big tensor and not
        the whole model, so it takes seconds on any size.
        """
        digest, tables = hashlib.sha256(), self.vocabulary
        for path in sorted(self.path.glob("*")):
            if path.is_file() and path.suffix in (".json", ".txt", ".model", ".jinja") and path.name != "regraft.json":
                digest.update(f"{path.name} {path.stat().st_size}\n".encode())
                digest.update(path.read_bytes())
        for name, shard in sorted(self.shards.items()):
            digest.update(f"{name} {shard.path.stat().st_size}\n".encode() + shard.header)
            for tensor, info in shard.tensors.items():
                _hash_tensor(digest, info, whole=tensor in tables and info.nbytes <= 256 << 20)
        return f"sha256:{digest.hexdigest()}"


@dataclass(frozen=True)
class WriteReport:
    """What `write` did: bytes written or copied, files linked and copied, and what was left out because it holds the old vocabulary."""

    bytes_written: int
    files_linked: int
    files_copied: int
    seconds: float
    files_rewritten: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def write(
    checkpoint: Checkpoint,
    out: str | Path,
    *,
    tensors: Mapping[str, Value],
    config: Mapping[str, Any] | None = None,
    ids: Mapping[int, int] | None = None,
    files: Mapping[str, bytes | None] | None = None,
    added: Mapping[str, torch.Tensor] | None = None,
    dropped: Collection[str] = (),
    extra: Callable[[Path], None] | None = None,
    record: Callable[[Path, Sequence[str]], None] | None = None,
    overwrite: bool = False,
    link: bool = True,
) -> WriteReport:
    """Write `checkpoint` with other `tensors` to the directory `out`, which appears whole or not at all.

    Parameters
    ----------
    tensors : new values by stored name: a tensor, rows to append (`Appended`), or an iterator over row blocks (`Blocks`). A value for one
        name of a tied set goes to every stored copy.
    config : fields of config.json to set, in nested configs that have them too; token ids also in generation_config.json. Every size of
        the vocabulary that is in it follows the tables by itself.
    ids : where each old id is now; every id that config.json, generation_config.json and processors store follows, at any depth.
    files : files beside config.json to write (or with None: to leave out).
    added, dropped : tensors to put beside the input table (or the first tensor) under names of their own; names of tensors to leave out.
    extra : called with the temporary directory just before it takes its final name, to add or replace files.
    record : called last, with the temporary directory and the names of all files in it that are not the source's; such as
        ``functools.partial(provenance.save, provenance.record(...))``.
    link : share unchanged shards with the source (shared blocks or hard links) instead of copying them. A hard link is one file with two
        names: whoever later overwrites such a shard *in place* changes the source too. All other files are copied.

    Before anything is written, plain `transformers` builds the new config without weights, and every name and shape is held against what
    will be in the files. Memory: what the caller holds in `tensors`, plus some chunks.

    Raises `OutputError` (see `atomic_directory`) and `CheckpointError` (a tensor that does not fit).
    """
    start = time.perf_counter()
    plans = _plan(checkpoint, tensors)
    if known := sorted((added or {}).keys() & checkpoint.tensors.keys()):
        raise CheckpointError(f"{checkpoint.path}: already stores {known[0]}: change it instead of adding it")
    beside = next(iter([*checkpoint.vocabulary, *checkpoint.tensors]))
    home = checkpoint.tensors[beside].file.name
    touched_names = {*plans, *dropped, *([beside] if added else [])}
    changed = {name: shard for name, shard in checkpoint.shards.items() if touched_names & shard.tensors.keys()}
    inside = checkpoint.path.relative_to(checkpoint.root)
    moved = _Moved(dict(added or {}), frozenset(dropped), home)
    texts = _changed_files(checkpoint, plans, dict(config or {}), ids, moved) | dict(files or {})
    rewritten = [(inside / name).as_posix() for name in changed]
    new = [(inside / name).as_posix() for name, text in texts.items() if text is not None]
    with (
        atomic_directory(out, overwrite=overwrite, sources=(checkpoint.root,)) as temporary,
        ThreadPoolExecutor(1) as background,  # forces shards to disk while the next one is copied and hashes are taken
    ):
        check_space(temporary, _space_needed(checkpoint, plans, changed, link) + sum(t.nbytes for t in moved.added.values()))
        skipped = {inside / name for name in [*changed, *texts]}
        linked, copied, left_out, size = take_over(checkpoint, temporary, skipped, link)
        (temporary / inside).mkdir(parents=True, exist_ok=True)
        flushes = []
        for name, shard in changed.items():
            target = temporary / inside / name
            here = moved.added if name == home else {}
            size += rewrite_shard(shard, target, {n: plans[n] for n in shard.tensors if n in plans}, here, moved.dropped)
            flushes.append(background.submit(fsync, target))
        size += write_texts(temporary / inside, texts)
        before = _stamps(temporary)
        if extra is not None:
            extra(temporary)
        if record is not None:
            touched = [name for name, stamp in _stamps(temporary).items() if before.get(name) != stamp]
            record(temporary, sorted({*rewritten, *new, *touched}))
        for flush in flushes:
            flush.result()
    return WriteReport(size, linked, copied, time.perf_counter() - start, tuple(rewritten), tuple(left_out))


@dataclass(frozen=True)
class _Moved:
    """Tensors that come and go: `added` ones by name, in the shard `home`; `dropped` names."""

    added: dict[str, torch.Tensor]
    dropped: frozenset[str]
    home: str


def _hash_tensor(digest: Any, info: TensorInfo, whole: bool) -> None:
    """All of the tensor, or its first and last bytes and evenly spread blocks of 4 KiB (more of them for a bigger tensor)."""
    if whole or info.nbytes <= 16 << 10:
        for chunk in read_chunks(info):
            digest.update(chunk)
        return
    block, count = 4 << 10, min(SAMPLES, info.nbytes // (64 << 10) + 2)
    with info.file.open("rb", buffering=0) as file:
        for i in range(count):
            file.seek(info.offset + (info.nbytes - block) * i // (count - 1))
            digest.update(file.read(block))


def _plan(checkpoint: Checkpoint, tensors: Mapping[str, Value]) -> dict[str, Plan]:
    plans: dict[str, Plan] = {}
    tables = checkpoint.vocabulary
    for name, value in tensors.items():
        checkpoint._info(name)
        for alias in checkpoint.layout.copies(name) if tables else (name,):
            if alias not in plans or alias == name:
                plans[alias] = plan_tensor(alias, checkpoint.tensors[alias], value)
    rows = {name: _vocabulary_rows(checkpoint, name, (plans.get(name) or checkpoint.tensors[name]).shape) for name in tables}
    if len(set(rows.values())) > 1:
        raise CheckpointError("the tensors over the vocabulary would differ in rows: " + ", ".join(f"{n} {r}" for n, r in rows.items()))
    return plans


def _vocabulary_rows(checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> int:
    """How many tokens a tensor over the vocabulary of `shape` has rows for."""
    layout = checkpoint.layout
    first = 1 if shape[0] == 1 and len(shape) == 2 else 0  # some biases are stored as one row
    return shape[layout.others.get(name, first)] - layout.behind.get(name, 0)


def _changed_files(
    checkpoint: Checkpoint, plans: Mapping[str, Plan], fields: dict[str, Any], ids: Mapping[int, int] | None, moved: _Moved
) -> dict[str, bytes | None]:
    """Contents of config.json, of the index and of the other files that store ids, where they change."""
    files: dict[str, bytes | None] = {}
    tables, config = checkpoint.vocabulary, checkpoint.config
    if tables and tables[0] in plans:
        rows = _vocabulary_rows(checkpoint, tables[0], plans[tables[0]].shape)
        if rows != checkpoint.layout.rows:
            config = checkpoint.layout.resized(config, rows)
    config = _with_fields(config, fields) if fields else config
    documents = {"config.json": config} | {name: document for name, document in checkpoint.id_files().items() if name != "config.json"}
    own = {key: value for key, value in fields.items() if key.endswith("_token_id")}
    for name, document in documents.items():
        new = document if ids is None else move_ids(document, ids)
        if name == "generation_config.json":
            new = new | own
        if new != (checkpoint.config if name == "config.json" else document):
            files[name] = dump(new)
    if checkpoint.index is not None and (plans or moved.added or moved.dropped):
        files[INDEX] = dump(_updated_index(checkpoint, plans, moved))
    if tables and set(tables) & plans.keys() and not config.get(KEY):
        stored = {name: (plans.get(name) or info).shape for name, info in checkpoint.tensors.items() if name not in moved.dropped}
        stored |= {name: tuple(tensor.shape) for name, tensor in moved.added.items()}
        final = json.loads(files.get("config.json") or b"null") or checkpoint.config
        check_fits(checkpoint.path, checkpoint.config, {n: i.shape for n, i in checkpoint.tensors.items()}, final, stored)
    return files


def _with_fields(config: dict[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with `fields` set at the top and in nested text configs that have them."""
    new = copy.deepcopy(config)
    nested = [new[key] for key in ("text_config", "llm_config", "language_config") if isinstance(new.get(key), dict)]
    for key, value in fields.items():
        places = [part for part in nested if key in part]
        for part in places:
            part[key] = value
        if key in new or not places:
            new[key] = value
    return new


def _updated_index(checkpoint: Checkpoint, plans: Mapping[str, Plan], moved: _Moved) -> dict[str, Any]:
    index = copy.deepcopy(checkpoint.index or {})
    index["weight_map"] = {name: file for name, file in index["weight_map"].items() if name not in moved.dropped}
    index["weight_map"] |= dict.fromkeys(moved.added, moved.home)
    metadata = index.get("metadata")
    if isinstance(metadata, dict):
        grown = sum(plan.nbytes - checkpoint.tensors[name].nbytes for name, plan in plans.items())
        more = sum(torch.Size(plan.shape).numel() - torch.Size(checkpoint.tensors[name].shape).numel() for name, plan in plans.items())
        gone = [checkpoint.tensors[name] for name in moved.dropped]
        grown += sum(t.nbytes for t in moved.added.values()) - sum(info.nbytes for info in gone)
        more += sum(t.numel() for t in moved.added.values()) - sum(torch.Size(info.shape).numel() for info in gone)
        for key, difference in (("total_size", grown), ("total_parameters", more)):
            if isinstance(metadata.get(key), int):
                metadata[key] += difference
    return index


def dump(data: Any) -> bytes:
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


def write_texts(directory: Path, texts: Mapping[str, bytes | None]) -> int:
    """Write small files by relative name; returns their size in bytes."""
    for name, text in texts.items():
        if text is not None:
            target = directory / PurePosixPath(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text)
    return sum(len(text) for text in texts.values() if text is not None)


def _stamps(directory: Path) -> dict[str, tuple[int, int, int]]:
    """What tells whether a file was written again: name -> (inode, size, time of change)."""
    found = {}
    for name in content(directory):
        state = (directory / name).stat()
        found[name.as_posix()] = (state.st_ino, state.st_size, state.st_mtime_ns)
    return found


def _space_needed(checkpoint: Checkpoint, plans: Mapping[str, Plan], changed: Mapping[str, Shard], link: bool) -> int:
    """Bytes the new directory takes if every unchanged shard can be linked (`link`) or none can."""
    grown = sum(plan.nbytes - checkpoint.tensors[name].nbytes for name, plan in plans.items())
    shards = changed if link else checkpoint.shards
    return grown + sum(shard.path.stat().st_size for shard in shards.values()) + CHUNK


def take_over(checkpoint: Checkpoint, temporary: Path, skipped: set[Path], link: bool) -> tuple[int, int, list[str], int]:
    """Bring every unchanged file into `temporary`; returns (linked, copied, left out, bytes copied).

    Shards may be linked. Everything else is copied, so that saving a tokenizer over it cannot reach the source.
    """
    linked = copied = size = 0
    left_out: list[str] = []
    inside = checkpoint.path.relative_to(checkpoint.root)
    for relative in content(checkpoint.root):
        if relative in skipped:
            continue
        source, target = checkpoint.root / relative, temporary / relative
        beside = relative.relative_to(inside) if relative.is_relative_to(inside) else None
        shard = beside is not None and beside.as_posix() in checkpoint.shards
        if beside is not None and not shard and _other_weights(beside):
            left_out.append(relative.as_posix())
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if link_or_copy(source, target, link=link and shard) == "linked":
            linked += 1
        else:
            copied, size = copied + 1, size + target.stat().st_size
    return linked, copied, left_out, size


def _other_weights(path: Path) -> bool:
    if path.parts[0] in OTHER_WEIGHT_FOLDERS and len(path.parts) > 1:
        return True
    return len(path.parts) == 1 and path.name not in (INDEX,) and OTHER_WEIGHTS.fullmatch(path.name) is not None


def content(root: Path, *, records: bool = False) -> Iterator[Path]:
    """Regular files below `root` (through links to files, not to folders), relative to it; with `records` also its regraft.json."""
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name not in NOT_CONTENT)
        for name in sorted(files):
            path = Path(folder) / name
            if path.is_file() and (records or path != root / "regraft.json"):
                yield path.relative_to(root)
