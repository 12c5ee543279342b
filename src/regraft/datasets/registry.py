"""Named data sets: files of public repositories at a fixed commit, checked by hash, downloaded only when a reproduction asks for them.

Enters: the name of a data set and of a file in it. Leaves: a path to that file, with the hash it should have. The folder named by the
environment variable REGRAFT_DATA is looked at first (as ``<REGRAFT_DATA>/<set>/<file>``), then the user's cache, then the network.
"""

import functools
import json
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pooch

from regraft.errors import CorpusError, ParameterError

FOLDER_VARIABLE = "REGRAFT_DATA"


@dataclass(frozen=True)
class DataFile:
    """One file: where it comes from, its size in bytes and its SHA-256 in hexadecimal."""

    name: str
    url: str
    size: int
    sha256: str


@dataclass(frozen=True)
class DataSet:
    """Files of one repository at a commit, or under one address. `redistributable` is False where the licence forbids or does not say."""

    name: str
    repository: str
    commit: str
    licence: str
    redistributable: bool
    note: str
    files: dict[str, DataFile]
    address: str = ""

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files.values())


@functools.cache
def data_sets() -> dict[str, DataSet]:
    """Every named data set, by name."""
    listed = json.loads(resources.files("regraft").joinpath("data_sets.json").read_text(encoding="utf-8"))
    return {entry["name"]: _data_set(entry) for entry in listed}


def _data_set(entry: dict[str, Any]) -> DataSet:
    address = entry.get("address", "")  # else a repository of GitHub at its commit
    source = address or f"https://raw.githubusercontent.com/{entry['repository']}/{entry['commit']}"
    files = {name: DataFile(name, f"{source}/{f['path']}", f["size"], f["sha256"]) for name, f in entry["files"].items()}
    about = {key: entry[key] for key in ("name", "licence", "redistributable", "note")}
    return DataSet(repository=entry.get("repository", ""), commit=entry.get("commit", ""), files=files, address=address, **about)


def files(name: str) -> list[str]:
    """Names of the files of a data set. Raises `ParameterError` for an unknown one."""
    return list(_known(name).files)


def fetch(name: str, file: str) -> Path:
    """The path of one file of a data set, downloaded on first use and checked every time.

    Raises `ParameterError` for an unknown data set or file, `CorpusError` when a local copy differs from the published file or the download
    fails.
    """
    data_set = _known(name)
    if file not in data_set.files:
        raise ParameterError(f"data set '{name}' has no file '{file}': it has {', '.join(data_set.files)}")
    wanted = data_set.files[file]
    local = _given(name, file)
    if local is not None:
        if pooch.file_hash(str(local), alg="sha256") != wanted.sha256:
            raise CorpusError(f"{local}: not the published file (SHA-256 differs); delete it, or point {FOLDER_VARIABLE} elsewhere")
        return local
    _quiet()
    try:
        return Path(pooch.retrieve(wanted.url, f"sha256:{wanted.sha256}", fname=file, path=_cache() / name))
    except ValueError:  # pooch's word for a hash that differs
        raise CorpusError(f"{name}/{file}: what {wanted.url} sent is not the published file (SHA-256 differs); try again later") from None
    except Exception as error:  # each download library has its own errors for "no network"
        reason = type(error).__name__
        raise CorpusError(
            f"data set '{name}': {file} is not here and can't be downloaded ({reason}); get {wanted.url}, "
            f"put it at FOLDER/{name}/{file} and set {FOLDER_VARIABLE}=FOLDER"
        ) from None


def list_data_sets() -> list[dict[str, Any]]:
    """One row per data set: name, files, size (bytes), licence, redistribution, note, source, where (a folder, or "not here")."""
    return [
        {
            "name": entry.name,
            "files": len(entry.files),
            "size": entry.size,
            "licence": entry.licence,
            "redistribution": "allowed" if entry.redistributable else "check first",
            "note": entry.note,
            "source": entry.address or f"https://github.com/{entry.repository}/tree/{entry.commit}",
            "where": _where(entry),
        }
        for entry in data_sets().values()
    ]


def list_files(name: str) -> list[dict[str, Any]]:
    """One row per file of a data set: file, size (bytes), address, where (a path, or "not here"). `ParameterError` for an unknown name."""
    entry = _known(name)
    places = [folder / name for folder in (_folder(), _cache()) if folder is not None]

    def row(file: DataFile) -> dict[str, Any]:
        found = next((str(place / file.name) for place in places if (place / file.name).is_file()), "not here")
        return {"file": file.name, "size": file.size, "address": file.url, "where": found}

    return [row(file) for file in entry.files.values()]


def _where(entry: DataSet) -> str:
    for folder in filter(None, (_folder(), _cache())):
        present = sum((folder / entry.name / name).is_file() for name in entry.files)
        if present:
            partly = "" if present == len(entry.files) else f" ({present} of {len(entry.files)} files)"
            return f"{folder / entry.name}{partly}"
    return "not here"


def _known(name: str) -> DataSet:
    known = data_sets()
    if name not in known:
        raise ParameterError(f"unknown data set '{name}': choose one of {', '.join(known)}")
    return known[name]


def _folder() -> Path | None:
    given = os.environ.get(FOLDER_VARIABLE)
    return Path(given).expanduser().resolve() if given else None


def _given(name: str, file: str) -> Path | None:
    folder = _folder()
    path = folder / name / file if folder else None
    return path if path is not None and path.is_file() else None


def _cache() -> Path:
    return Path(pooch.os_cache("regraft"))


def _quiet() -> None:
    pooch.get_logger().setLevel("WARNING")  # its notes on each download would mix with our progress
