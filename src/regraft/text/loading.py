"""Opening a saved encoder. sentence-transformers refuses modules that are not its own; ours are opened here, no other code is ever run.

Enters: a directory. Leaves: a `SentenceTransformer`.
"""

import functools
import hashlib
import importlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense
from torch import nn

from regraft.checkpoint import Checkpoint, content
from regraft.errors import CheckpointError
from regraft.language.loading import quiet
from regraft.provenance import sha256
from regraft.text.explicit.naming import KEY, restore_names

OURS = "regraft.text.modules."


def load(path: str | Path, *, device: str = "cpu") -> SentenceTransformer:
    """The encoder saved at `path`, whether all its modules are sentence-transformers' own or some are ours.

    Raises `CheckpointError`: no such directory, a damaged file, modules of any other package.
    """
    path = Path(path).expanduser()
    listed = _listed(path)
    if not any(type_.startswith(OURS) for type_ in _types(path, listed)):
        model = _opened(path, lambda: SentenceTransformer(str(path), device=device))
        restore_names(model, path)
        return model
    settings = _json(path / "config_sentence_transformers.json") if (path / "config_sentence_transformers.json").is_file() else {}
    model = _opened(path, lambda: SentenceTransformer(modules=[_module(path, entry) for entry in listed], device=device))
    model.prompts |= settings.get("prompts") or {}
    model.default_prompt_name = settings.get("default_prompt_name")
    if settings.get("similarity_fn_name"):
        model.similarity_fn_name = settings["similarity_fn_name"]
    restore_names(model, path)
    return model


def is_stock(path: str | Path) -> bool:
    """Whether plain sentence-transformers opens what is saved at `path`."""
    return not any(type_.startswith(OURS) for type_ in _types(Path(path), _listed(Path(path))))


@functools.cache
def content_hash(source: str | Path) -> str:
    """An id of all files of an encoder, a directory or Hub id, or of a file of vectors."""
    if Path(source).is_file():
        return f"sha256:{sha256(Path(source))}"
    root = Path(source) if Path(source).is_dir() else Checkpoint.open(source).path
    digest = hashlib.sha256()
    for file in content(root):
        digest.update(f"{file} {sha256(root / file)}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _listed(path: Path) -> list[dict[str, str]]:
    found = _json(path / "modules.json")
    whole = isinstance(found, list) and all(isinstance(one, dict) and {"type", "path"} <= one.keys() for one in found)
    if not whole or not found:
        raise CheckpointError(f"{path / 'modules.json'}: not a list of modules: it should be what sentence-transformers saves")
    return [{"type": str(one["type"]), "path": str(one["path"])} for one in found]


def _types(path: Path, listed: list[dict[str, str]]) -> list[str]:
    """Types of all modules, those inside the routes of a `Router` too."""
    found = []
    for entry in listed:
        file = path / entry["path"] / "router_config.json"
        nested = _json(file).get("types", {}).values() if entry["type"].endswith(".Router") and file.is_file() else ()
        found += [entry["type"], *map(str, nested)]
    return found


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError:
        raise CheckpointError(f"{path.parent}: no {path.name}: give the directory of a sentence-transformers model") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged ({error})") from None


def _module(path: Path, entry: dict[str, str]) -> nn.Module:
    """One module by its type: of the library or of ours, nothing else."""
    inside = {type_: _class(path, type_) for type_ in _types(path, [entry])[1:] if type_.startswith(OURS)}
    routes = {"module_classes": inside} if inside else {}
    loaded: nn.Module = _class(path, entry["type"]).load(str(path), subfolder=entry["path"], local_files_only=True, **routes)
    return loaded


def _class(path: Path, type_: str) -> Any:
    package, _, name = type_.rpartition(".")
    if package.startswith("sentence_transformers."):
        package = "sentence_transformers.sentence_transformer.modules"
    elif not type_.startswith(OURS):
        raise CheckpointError(f"{path}: module {type_} is neither sentence-transformers' nor ours: it is not loaded")
    try:
        return getattr(importlib.import_module(package), name)
    except (ImportError, AttributeError):
        raise CheckpointError(f"{path}: there is no module {type_} in the versions installed here") from None


@contextmanager
def _names_are_ours() -> Iterator[None]:
    """No word on names of dimensions, a key that a stock `Dense` does not know and `restore_names` reads."""

    def other(record: logging.LogRecord) -> bool:
        return f"config key(s) {[KEY]}" not in record.getMessage()

    logger = logging.getLogger(Dense.__module__)
    logger.addFilter(other)
    try:
        yield
    finally:
        logger.removeFilter(other)


def _opened(path: Path, open_: Any) -> SentenceTransformer:
    try:
        with quiet(), _names_are_ours():
            model: SentenceTransformer = open_()
    except CheckpointError:
        raise
    except (OSError, ValueError, ImportError, KeyError, AttributeError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: sentence-transformers cannot open it ({' '.join(str(error).split())[:200]})") from None
    return model
