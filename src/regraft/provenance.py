"""regraft.json: what an output was made of and how; and the way back.

Enters: the source checkpoint and what a verb did to it. Leaves: one JSON object in the output directory, and `undo`, which brings the
source's files back where they are still what they were.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from regraft import __version__
from regraft.checkpoint import Checkpoint, content
from regraft.errors import CheckpointError
from regraft.output import atomic_directory, check_output, check_space, link_or_copy

FILE = "regraft.json"
WEIGHTS = ".safetensors"  # files that are linked and not copied: nothing of ours writes into one in place
SCHEMA = 1
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")


class Source(Protocol):
    """What an output is made from: a checkpoint, or a family's own kind of input.

    `root` is its directory, `id` and `revision` say where on the Hub it came from, if it did, and `source_hash` is an id of its content.
    """

    @property
    def root(self) -> Path: ...
    @property
    def id(self) -> str | None: ...
    @property
    def revision(self) -> str | None: ...
    def source_hash(self) -> str: ...


@dataclass(frozen=True)
class Given:
    """A file or folder as the source of an output. `digest` : an id of its content; by default the hash of the file."""

    root: Path
    digest: str | None = None
    id: str | None = None
    revision: str | None = None

    def source_hash(self) -> str:
        return self.digest or f"sha256:{sha256(self.root)}"


class Open(Protocol):
    """Opens a source again by its directory or Hub id. Raises `CheckpointError` where it is gone or damaged."""

    def __call__(self, path_or_id: str | Path, *, revision: str | None) -> Source: ...


@dataclass(frozen=True)
class UndoReport:
    """What `undo` restored: the directory, the source it came from, and how many files were linked and copied."""

    directory: Path
    source: Path
    files_linked: int
    files_copied: int


def record(
    source: Source,
    verb: str,
    *,
    source_hash: str | None = None,
    method: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    seed: int | None = None,
    corpus: Mapping[str, Any] | None = None,
    timings: Mapping[str, float] | None = None,
    metrics: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The provenance of an output made from `source`, ready for `save`; every value must be one that JSON can hold.

    `corpus` holds at least ``sha256``; `timings` seconds per step; `metrics` figures by name. `source_hash` (default: computed here) is
    `Source.source_hash`.
    """
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "verb": verb,
        "source": {
            "path": str(source.root),
            "id": source.id,
            "revision": source.revision,
            "hash": source_hash or source.source_hash(),
        },
        "method": None if method is None else {"name": method, "parameters": dict(parameters or {})},
        "seed": seed,
        "versions": versions(),
        "corpus": None if corpus is None else dict(corpus),
        "timings": dict(timings or {}),
        "metrics": dict(metrics or {}),
        "notes": list(notes),
    }


def versions() -> dict[str, str]:
    """Versions of regraft, Python and the libraries that decide results."""
    found = {"regraft": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def save(provenance: Mapping[str, Any], directory: Path, files: Sequence[str] = ()) -> None:
    """Write `regraft.json` into `directory`; `files` are the changed files in it, whose SHA-256 is added."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # hashing releases the interpreter's lock
        hashes = dict(zip(files, pool.map(lambda name: sha256(directory / name), files), strict=True))
    text = json.dumps({**provenance, "files": hashes}, indent=2, ensure_ascii=False, default=_plain)
    (directory / FILE).write_text(text + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _plain(value: Any) -> Any:
    """Values that JSON has no type for."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} does not belong in {FILE}")


def read(directory: str | Path) -> dict[str, Any]:
    """The provenance of `directory`. Raises `CheckpointError` if regraft did not make it."""
    path = Path(directory) / FILE
    if not Path(directory).is_dir():
        raise CheckpointError(f"{directory}: no such directory")
    try:
        data = json.loads(path.read_bytes().decode("utf-8"))
        if not isinstance(data, dict) or not isinstance(data["source"], dict) or not isinstance(data["source"]["hash"], str):
            raise ValueError("not a provenance record")
    except FileNotFoundError:
        raise CheckpointError(f"{directory}: has no {FILE}: it was not made by regraft, so there is nothing to undo") from None
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be read as provenance ({error})") from None
    if data.get("schema") != SCHEMA:
        raise CheckpointError(
            f"{path}: schema {data.get('schema')} is not one that regraft {__version__} knows ({SCHEMA}): use a newer regraft"
        )
    return data


def open_checkpoint(path_or_id: str | Path, *, revision: str | None) -> Source:
    """A checkpoint of any kind, also one whose tables are factorised."""
    return Checkpoint.open(path_or_id, revision=revision, factorised=True)


def undo(
    directory: str | Path, out: str | Path | None = None, *, overwrite: bool = False, link: bool = True, open_source: Open = open_checkpoint
) -> UndoReport:
    """Bring back the source that `directory` was made from: every file of the source, and so also weights that training changed.

    Without `out` it takes the place of `directory`, in one step; with `out` it is written there and `directory` stays. Shards are
    linked to the source's where the file system can (`link`). `open_source` is for a source that is no checkpoint.

    Raises `CheckpointError` when regraft did not make `directory`, or the source is gone or no longer what it was.
    """
    directory = Path(directory).expanduser().resolve()
    source = _find_source(directory, read(directory)["source"], open_source)
    target = directory if out is None else Path(out).expanduser().resolve()
    check_output(target, overwrite=overwrite or out is None, sources=(source.root,))
    if out is not None and target != directory:
        check_output(target, overwrite=overwrite, sources=(directory,))
    linked = copied = 0
    with atomic_directory(target, overwrite=overwrite or out is None, sources=(source.root,)) as temporary:
        if not link:
            check_space(temporary, sum(path.stat().st_size for path in source.root.rglob(f"*{WEIGHTS}")))
        for relative in content(source.root, records=True):
            place = temporary / relative
            place.parent.mkdir(parents=True, exist_ok=True)
            if link_or_copy(source.root / relative, place, link=link and relative.suffix == WEIGHTS) == "linked":
                linked += 1
            else:
                copied += 1
    return UndoReport(target, source.root, linked, copied)


def _find_source(directory: Path, source: Mapping[str, Any], open_source: Open) -> Source:
    path = Path(str(source.get("path")))
    try:
        where = path if path.is_dir() or not source.get("id") else source["id"]
        found = open_source(where, revision=source.get("revision"))
    except CheckpointError as error:
        raise CheckpointError(f"{directory}: cannot be undone, its source is gone or damaged: {error}") from None
    if found.source_hash() != source["hash"]:
        raise CheckpointError(f"{directory}: cannot be undone: its source {found.root} has changed since")
    return found
